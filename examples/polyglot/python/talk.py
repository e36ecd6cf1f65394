"""Runs the agent once, and shows what its nodes stream. The question of the Go node is answered on the terminal, or with yes where there is none."""
import sys
import time

from runloom import Custom, End, MessageChunk, SyncClient, Text

address = sys.argv[1]
with SyncClient(address) as client:
    while len(list(client.workers.list())) < 3:
        time.sleep(0.1)
    thread = client.threads.create().thread_id
    run = {"input": {"order_id": "A-1042"}}
    while run:
        for part in client.runs.stream("support", thread_id=thread, stream_modes=["custom", "messages"], stream_subgraphs=True, **run):
            match part.payload:
                case Custom(payload=data):
                    progress = f" {data['percent']} %" if "percent" in data else ""
                    print(f"{data['language']}: {data['status']}{progress}", flush=True)
                case MessageChunk(content=content, last=last):
                    print("".join(block.text for block in content if isinstance(block, Text)), end="\n" if last else "", flush=True)
                case End(interrupts=questions, state=state):
                    end = state
        run = None
        if questions:
            question = questions[0].value["question"]
            words = input(f"Go asks: {question} (yes/no) ") if sys.stdin.isatty() else print(f"Go asks: {question} yes") or "yes"
            run = {"command": {"resume": {"approved": words.strip().lower() in ("y", "yes")}}}
    print(end, *client.threads.state(thread).checkpoint.values["log"], sep=", ")
