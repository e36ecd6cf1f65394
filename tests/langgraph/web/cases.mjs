// What a person does with a page, and what it must show. Each case works with a hook and a transport: `open` opens a tab with both.
import assert from "node:assert/strict";

const BEGIN = "One morning a small boat left the harbour, with a cat at the helm and a map that nobody could read.";
const GO_ON = "By noon the wind had turned, and the cat steered by the gulls, by the smell of fish, and by a song that she made up on the way home.";
const STORY = ["Tell me a story.", BEGIN, GO_ON];
const LETTER = "Dear neighbour, your music is too loud.";
const SENT = "The letter is in the post.";

export async function tokens({ open }) {
  const tab = await open("story");
  await tab.ask("Tell me a story.");
  await tab.ends(...STORY);
  await tab.steady();
  // Twenty words or more each: most of them one at a time, whatever the browser puts together.
  for (const at of [1, 2]) assert.ok(await tab.growth(at) > 8, `message ${at} came in ${await tab.growth(at)} pieces`);
}

/** A second question on the same thread. */
export async function again({ open }) {
  const tab = await open("letter");
  await tab.ask("Write.");
  await tab.asks("Send it?");
  await tab.answer("yes");
  await tab.ends("Write.", LETTER, SENT);
  await tab.ask("Once more.");
  await tab.asks("Send it?");
  const [, , , human, letter] = (await tab.frame()).messages.map((message) => message[2]);
  assert.deepEqual([human, letter], ["Once more.", LETTER]);
  await tab.steady();
}

export async function stop({ open, client, statusOf }) {
  const tab = await open("story");
  await tab.ask("Tell me a story.");
  await tab.speaks(4);
  await tab.stop();
  await tab.until("that it stopped", ({ loading }) => !loading);
  const thread = await tab.thread();
  const [run] = await client.runs.list(thread);
  // The server has stopped it too: what it said ends where it was stopped.
  await client.runs.join(thread, run.run_id);
  assert.equal(await statusOf(thread, run), "interrupted");
  await tab.once("Tell me a story.", BEGIN);
  assert.notEqual((await tab.frame()).messages[1]?.[2], BEGIN);
  // And the thread can be used. What was said before the stop is in no state: the newer hook shows it until the page is loaded again.
  await tab.ask("Tell it again.");
  await tab.until("the whole story", ({ messages, loading }, last) => !loading && messages.some((message) => message[2] === last), GO_ON);
  await tab.reload();
  await tab.ends("Tell me a story.", "Tell it again.", BEGIN, GO_ON);
}

export async function reload({ open }) {
  const tab = await open("story");
  await tab.ask("Tell me a story.");
  await tab.speaks(4);
  await tab.reload();
  await tab.speaks(4, 3);
  await tab.once(...STORY);
  await tab.reload();
  await tab.ends(...STORY);
  await tab.once(...STORY);
  await tab.reload();
  await tab.ends(...STORY);
}

export async function question({ open }) {
  const tab = await open("letter");
  await tab.ask("Write.");
  await tab.asks("Send it?");
  await tab.ends("Write.", LETTER);
  await tab.answer("yes");
  await tab.ends("Write.", LETTER, SENT);
  assert.deepEqual((await tab.frame()).questions, []);
  await tab.steady();
}

export async function reload_and_answer({ open }) {
  const tab = await open("letter");
  await tab.ask("Write.");
  await tab.asks("Send it?");
  await tab.reload();
  await tab.asks("Send it?");
  await tab.ends("Write.", LETTER);
  await tab.answer("yes");
  await tab.ends("Write.", LETTER, SENT);
  assert.deepEqual((await tab.frame()).questions, []);
  await tab.once("Write.", LETTER, SENT);
  await tab.reload();
  await tab.ends("Write.", LETTER, SENT);
  assert.deepEqual((await tab.frame()).questions, []);
}

export async function failure({ open }) {
  const tab = await open("broken");
  await tab.ask("Go on.");
  await tab.until("the error", ({ errors, loading }) => !loading && errors.some((error) => error.includes("the printer is on fire")));
  await tab.ends("Go on.", "This goes well so far.");
  await tab.steady();
}

export async function two_tabs({ open, client }) {
  const first = await open("story");
  await first.ask("Tell me a story.");
  await first.speaks(3);
  const second = await open("story", await first.thread());
  await second.speaks(3, 3);
  await Promise.all([first, second].map((tab) => tab.ends(...STORY)));
  await first.steady();
  await second.once(...STORY);
}

/** One tab answers, the other sees it. */
export async function two_tabs_answer({ open, hook }) {
  const first = await open("letter");
  await first.ask("Write.");
  await first.asks("Send it?");
  const second = await open("letter", await first.thread());
  await second.asks("Send it?");
  await second.answer("yes");
  await second.ends("Write.", LETTER, SENT);
  // The older hook follows runs, not threads: its first tab sees nothing of the answer until it is loaded again.
  if (hook === "newer") await first.ends("Write.", LETTER, SENT);
  await first.reload();
  await first.ends("Write.", LETTER, SENT);
  assert.deepEqual((await first.frame()).questions, []);
  await second.once("Write.", LETTER, SENT);
}

/** The server is killed in the second message, and started again on its data. */
export async function crash({ open, server, hook }) {
  const tab = await open("story");
  await tab.ask("Tell me a story.");
  await tab.speaks(4, 3);
  await server.kill();
  await server.start();
  await tab.ends(...STORY);
  assert.deepEqual((await tab.frame()).errors, []);
  // The second message is said again by the new attempt, in its old place. (The older hook adds the pieces of both until the step ends.)
  if (hook === "newer") await tab.once(...STORY);
  await tab.reload();
  await tab.ends(...STORY);
}

/** The server is killed while a question is open. */
export async function crash_at_question({ open, server }) {
  const tab = await open("letter");
  await tab.ask("Write.");
  await tab.asks("Send it?");
  await server.kill();
  await server.start();
  await tab.answer("yes");
  await tab.ends("Write.", LETTER, SENT);
  assert.deepEqual((await tab.frame()).questions, []);
}
