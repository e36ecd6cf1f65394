"""The node of the example in Python: it answers word by word, as a model does."""
import asyncio
import os
import sys

from runloom import Worker

delay = float(os.environ.get("POLYGLOT_DELAY_MS", 300)) / 1000
worker = Worker(sys.argv[1], queue="python")


@worker.node
async def answer(state, ctx):
    if state.get("approved"):
        reply = f"I am sorry about the delay. I have refunded {state['order']['price']} to your card: {state['receipt']}."
    else:
        reply = "I am sorry about the delay. A refund is not possible."
    words = reply.split(" ")
    with ctx.message(model="support-writer") as message:
        for i, word in enumerate(words):
            message.text(word if i == 0 else f" {word}")
            await asyncio.sleep(delay / len(words))
    return {"messages": [message.as_message()], "log": ["answered by Python"]}


worker.run()
