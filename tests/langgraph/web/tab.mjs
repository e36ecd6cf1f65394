// A tab of the browser with the page on it: what a person does there, and what it shows.
import assert from "node:assert/strict";

// A page that does not show what it should after this long is broken.
const DEADLINE = Number(process.env.PAGE_DEADLINE ?? 40_000);

export class Tab {
  constructor(page) {
    this.page = page;
    this.errors = [];
    page.on("pageerror", (error) => this.errors.push(String(error)));
  }

  do(what, ...given) {
    return this.page.evaluate(([what, given]) => window.chat[what](...given), [what, given]);
  }

  ask = (text) => this.do("ask", text);
  stop = () => this.do("stop");
  answer = (value) => this.do("answer", value);

  async reload() {
    await this.page.reload();
    await this.page.waitForFunction(() => window.chat);
  }

  /** All that the page has shown since it was loaded. */
  frames() {
    return this.page.evaluate(() => window.frames_);
  }

  async frame() {
    return (await this.frames()).at(-1);
  }

  /** Waits until the page shows what a function of its latest frame wants. */
  async until(what, wants, given) {
    const predicate = new Function("given", `return window.frames_.length > 0 && (${wants})(window.frames_.at(-1), given)`);
    try {
      await this.page.waitForFunction(predicate, given, { timeout: DEADLINE });
    } catch (error) {
      throw new Error(`${what}: ${error.message.split("\n")[0]}; the page shows ${JSON.stringify(await this.frame())} ${this.errors}`);
    }
  }

  /** Waits for so many words of the latest message, while it still grows. */
  async speaks(words, messages = 2) {
    const wants = ({ messages, loading }, [words, count]) =>
      loading && messages.length === count && messages.at(-1)[1] === "ai" && messages.at(-1)[2].trim().split(/\s+/).length >= words;
    await this.until(`${words} words of message ${messages}`, wants, [words, messages]);
  }

  /** Waits until the page shows just these texts and nothing is under way. */
  async ends(...texts) {
    const wants = ({ messages, loading }, texts) => !loading && JSON.stringify(messages.map((m) => m[2])) === JSON.stringify(texts);
    await this.until(`an end with ${texts.length} messages`, wants, texts);
    assert.deepEqual(this.errors, []);
  }

  async asks(question) {
    await this.until(`the question ${question}`, (frame, question) => frame.questions.join() === question, question);
  }

  /** Nothing was shown twice in any frame since the page was loaded: each message is the beginning of another one of these texts. */
  async once(...texts) {
    for (const { messages } of await this.frames()) {
      const left = [...texts];
      for (const [id, , shown] of messages) {
        const at = left.findIndex((text) => text.startsWith(shown));
        assert.ok(at >= 0 && messages.filter((message) => message[0] === id).length === 1, `it showed ${JSON.stringify(messages)}`);
        if (shown !== "") left.splice(at, 1);
      }
    }
  }

  /** Nothing that was shown went away or shrank, in any frame since the page was loaded. */
  async steady() {
    let before = [];
    for (const { messages } of await this.frames()) {
      for (const [at, [id, , text]] of before.entries()) {
        const [sameId, , now] = messages[at] ?? [];
        assert.ok(id === sameId && now.startsWith(text), `it showed ${JSON.stringify(before)}, then ${JSON.stringify(messages)}`);
      }
      before = messages;
    }
  }

  /** The different texts that a message had, from empty to complete. */
  async growth(at) {
    return new Set((await this.frames()).map(({ messages }) => messages[at]?.[2]).filter(Boolean)).size;
  }
}
