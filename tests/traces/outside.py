"""Whom runs call: a model of OpenAI's wire, and a server that a tool asks. Both keep the headers of each call."""
import http.server, json, threading


class Outside:
    """Answers on a free port. The model calls the tool first, and says something then."""

    def __init__(self):
        self.calls = []
        outside = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                outside.calls.append(("tool", dict(self.headers)))
                self.answer("application/json", json.dumps({"weather": "fine"}).encode())

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outside.calls.append(("model", dict(self.headers)))
                if any(message["role"] == "tool" for message in body["messages"]):
                    delta, end = {"role": "assistant", "content": "It is fine."}, "stop"
                else:
                    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
                    delta, end = {"role": "assistant", "tool_calls": [call]}, "tool_calls"
                chunk = lambda choices, **more: {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "tiny-1", "choices": choices, **more}
                chunks = [chunk([{"index": 0, "delta": delta, "finish_reason": None}]), chunk([{"index": 0, "delta": {}, "finish_reason": end}]),
                          chunk([], usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10})]
                self.answer("text/event-stream", b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks) + b"data: [DONE]\n\n")

            def answer(self, kind, body):
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()

    def document(self):
        """An agent that calls both."""
        return f"""
runloom: v1
name: traced
state:
  messages: {{ reducer: messages }}
models:
  gpt: {{ provider: openai, model: tiny, base_url: "http://{self.address}/v1" }}
tools:
  weather:
    description: Tells the weather.
    parameters: {{ type: object, properties: {{}} }}
    http: {{ method: '"GET"', url: '"http://{self.address}/weather"' }}
nodes:
  agent: {{ chat_model: {{ model: gpt, tools: [weather] }} }}
  tools: {{ tools: {{ tools: [weather] }} }}
edges:
  - {{ from: START, to: agent }}
  - {{ from: agent, route: 'size(state.messages[size(state.messages) - 1].tool_calls) > 0 ? "tools" : "END"', to: [tools, END] }}
  - {{ from: tools, to: agent }}
"""
