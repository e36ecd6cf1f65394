// A chat by useStream: the newer hook of @langchain/react or the older one of the SDK, as the address says.
//
// The address names the server (`api`), the graph, the hook, its transport and, once there is one, the thread: a reload comes back to it.
// What the page shows is in the document; `window.frames_` has what it showed after each change.
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

import { useStream as useOlder } from "@langchain/langgraph-sdk/react";
import { useStream as useNewer } from "@langchain/react";

const query = new URLSearchParams(location.search);
const options = { apiUrl: query.get("api"), assistantId: query.get("graph") };

function useThread() {
  const [thread, set] = useState(query.get("thread"));
  const remember = (id) => {
    query.set("thread", id);
    history.replaceState(null, "", `?${query}`);
    set(id);
  };
  return [thread, remember];
}

function Newer() {
  const [threadId, onThreadId] = useThread();
  const stream = useNewer({ ...options, transport: query.get("transport"), threadId, onThreadId });
  return <Chat stream={stream} answer={(value) => stream.respond(value, { interruptId: stream.interrupt.id })} />;
}

function Older() {
  const [threadId, onThreadId] = useThread();
  const stream = useOlder({ ...options, threadId, onThreadId, reconnectOnMount: true, fetchStateHistory: true });
  // A page that did not begin the run joins it by its id.
  useEffect(() => {
    if (query.has("run")) stream.joinStream(query.get("run"));
  }, []);
  return <Chat stream={stream} answer={(value) => stream.submit(undefined, { command: { resume: value } })} />;
}

function Chat({ stream, answer }) {
  const { messages, interrupts, error, isLoading } = stream;
  useEffect(record);
  useEffect(() => {
    window.chat = {
      ask: (content) => void stream.submit({ messages: [{ type: "human", content }] }),
      stop: () => void stream.stop(),
      answer: (value) => void answer(value),
    };
  });
  return (
    <main data-loading={String(isLoading)}>
      {messages.map((message, at) => (
        <p key={message.id ?? at} data-id={message.id} data-type={message.type ?? message.getType()}>{textOf(message)}</p>
      ))}
      {interrupts.map((interrupt) => <b key={interrupt.id}>{interrupt.value?.question}</b>)}
      {error != null && <i>{String(error.message ?? error)}</i>}
    </main>
  );
}

function textOf({ content }) {
  return typeof content === "string" ? content : content.map((block) => block.text ?? "").join("");
}

window.frames_ = [];

function record() {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const frame = {
    loading: document.querySelector("main").dataset.loading === "true",
    messages: all("p").map((p) => [p.dataset.id, p.dataset.type, p.textContent]),
    questions: all("b").map((b) => b.textContent),
    errors: all("i").map((i) => i.textContent),
  };
  if (JSON.stringify(frame) !== JSON.stringify(window.frames_.at(-1))) window.frames_.push(frame);
}

createRoot(document.getElementById("root")).render(query.get("hook") === "older" ? <Older /> : <Newer />);
