"""An agent on the server of llama.cpp, which has OpenAI's protocol."""
import json, re, urllib.request


def directly(address, messages):
    """What the server says to the same prompt, asked without Runloom: its pieces and what it used."""
    body = {"model": "random", "messages": messages, "temperature": 0, "seed": 1, "max_tokens": 12, "stream": True,
            "stream_options": {"include_usage": True}, "cache_prompt": True}
    request = urllib.request.Request(f"{address}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    pieces, usage = [], None
    with urllib.request.urlopen(request, timeout=60) as answer:
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            pieces += [choice["delta"]["content"] for choice in chunk["choices"] if choice["delta"].get("content")]
            usage = chunk.get("usage") or usage
    return pieces, usage


def parts(run, *names):
    """The parts of a run that are one of these."""
    assert run.returncode == 0, run.stdout + run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return [line[name] for line in lines for name in names if name in line]


def test_an_agent_streams_what_the_server_says(llama, runloom):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    said, used = directly(llama, messages)
    assert len(said) > 5
    run = runloom("run", "talk", "Hello", "--json")
    chunks = parts(run, "message_chunk")
    pieces = [block["text"] for chunk in chunks for block in chunk.get("content", []) if block.get("text")]
    assert pieces == said, "each token is a part of its own, as the server made it"
    usage = parts(run, "end")[-1]["usage"]
    assert int(usage["input_tokens"]) == used["prompt_tokens"]
    assert int(usage["output_tokens"]) == used["completion_tokens"] == 12


def test_people_see_it_too_and_the_thread_goes_on(runloom, tmp_path):
    first = runloom("run", "talk", "Hello", "--data", str(tmp_path / "data"))
    assert first.returncode == 0 and first.stdout.strip(), first.stderr
    assert "12 out" in first.stderr, first.stderr


def test_a_model_that_is_not_reached_is_an_error_that_says_so(graphs, runloom):
    document = graphs / "talk.yaml"
    # Nobody listens at port 1.
    document.write_text(re.sub("base_url: .*", "base_url: http://127.0.0.1:1/v1\n    max_retries: 0", document.read_text()))
    run = runloom("run", "talk", "Hello")
    assert run.returncode != 0
    assert "openai random: it could not be reached" in run.stderr, run.stderr
