/** Runs in a browser: streams a run over gRPC-Web, answers its question, and reports what it saw. */
import { RunloomError, connect } from "@runloom/client/web";

async function report(): Promise<unknown> {
  const client = connect(new URLSearchParams(location.search).get("server")!);
  const { threadId } = await client.threads.create();
  const seen: string[] = [];
  let seq = 0;
  for await (const part of client.runs.stream({ threadId, graphName: "approval", input: { topic: "tea" }, streamModes: ["custom", "updates"] })) {
    if (part.seq > 0 && part.seq !== ++seq) seen.push("a part is missing");
    const { payload } = part;
    if (payload.case === "custom") seen.push((payload.value.payload as { status: string }).status);
    if (payload.case === "update") seen.push(payload.value.node);
    if (payload.case === "end") seen.push(payload.value.state);
  }
  const { values } = await client.runs.wait({ threadId, graphName: "approval", command: { resume: { approved: true } } });
  const reason = await client.threads.get("01a1fd8a-13eb-7131-b87c-12b763e782c0").catch((error: unknown) => (error instanceof RunloomError ? error.reason : String(error)));
  return { seen, status: (values as { status: string }).status, reason };
}

report().catch((error: unknown) => ({ error: String(error) })).then((body) => fetch("/result", { method: "POST", body: JSON.stringify(body) }));
