package runloom_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	runloom "runloom.dev/clients/go"
	"runloom.dev/clients/go/internal/cutter"
	"runloom.dev/clients/go/internal/testserver"
)

const desk = `
runloom: v1
name: desk
state:
  amount: { schema: { type: number }, default: 10 }
  log: { reducer: append }
  messages: { reducer: messages }
models:
  bot:
    scripted:
      responses:
        - content: "Let me look."
          tool_calls: [ { name: search, args: { words: tea } } ]
        - content: "There is tea."
tools:
  search:
    description: Searches.
    parameters: { type: object, properties: { words: { type: string } }, required: [words] }
    worker: { queue: desk, handler: search }
nodes:
  look_up: { worker: { queue: desk, handler: look_up } }
  approve: { worker: { queue: desk, handler: approve }, retry: { max_attempts: 2, initial_ms: 1 } }
  agent: { chat_model: { model: bot, tools: [search] } }
  tools: { tools: {} }
edges:
  - { from: START, to: look_up }
  - { from: look_up, to: approve }
  - { from: approve, to: agent }
  - { from: agent, name: more, route: 'size(state.messages[size(state.messages) - 1].tool_calls) > 0 ? "tools" : "END"', to: [tools, END] }
  - { from: tools, to: agent }
`

// deskWorker runs a worker with the handlers of the document until the test is over.
func deskWorker(t *testing.T, address string) {
	t.Helper()
	worker := runloom.NewWorker(address, runloom.WorkerOptions{Queue: "desk", Documents: []string{desk}, DrainTimeout: time.Second}, fast())
	worker.AddNode("look_up", func(_ context.Context, task *runloom.TaskContext) (any, error) {
		if err := task.Emit(map[string]any{"status": "looking"}); err != nil {
			return nil, err
		}
		message := task.Message("desk-model")
		for _, text := range []string{"One ", "moment."} {
			if err := message.Text(text); err != nil {
				return nil, err
			}
		}
		return map[string]any{"log": []string{"looked up"}}, message.End(nil)
	})
	var failures atomic.Int32
	worker.AddNode("approve", func(_ context.Context, task *runloom.TaskContext) (any, error) {
		if failures.Add(1) == 1 {
			return nil, &runloom.Failure{Type: "Busy", Message: "try again", Retryable: runloom.RetryableYes}
		}
		var state struct{ Amount float64 }
		if err := task.Input(&state); err != nil {
			return nil, err
		}
		var answer struct{ OK bool }
		if state.Amount > 1000 {
			schema := map[string]any{"type": "object", "required": []string{"ok"}}
			if err := task.InterruptSchema(map[string]any{"question": "Approve?"}, schema, &answer); err != nil {
				return nil, err
			}
		}
		return runloom.NodeUpdate{Update: map[string]any{"log": []string{fmt.Sprint("approved ", answer.OK)}}}, nil
	})
	worker.AddTool("search", func(_ context.Context, task *runloom.TaskContext) (any, error) {
		var arguments struct{ Words string }
		if err := task.Input(&arguments); err != nil {
			return nil, err
		}
		return "found " + arguments.Words, task.Emit(map[string]any{"searching": arguments.Words})
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := within(t, ended); err != nil {
			t.Error(err)
		}
	})
}

func TestGraphWithAWorkerInGo(t *testing.T) {
	server := testserver.Start(t, map[string]string{"talk.yaml": talk})
	deskWorker(t, server.Address)
	client, ctx := connect(t, server.Address), limit(t)
	if err := client.WaitForWorker(ctx, "desk"); err != nil {
		t.Fatal(err)
	}
	thread := must(client.CreateThread(ctx, runloom.CreateThreadRequest{}))(t)
	var custom, text []string
	end, seen := (*runloom.End)(nil), func(part *runloom.Part, err error) {
		if err != nil {
			t.Fatal(err)
		}
		switch payload := part.Payload.(type) {
		case *runloom.Custom:
			custom = append(custom, payload.Payload.String())
		case *runloom.MessageChunk:
			if payload.Node == "look_up" || payload.MessageID != "" && len(payload.Content) > 0 {
				text = append(text, payload.Content[0].Text)
			}
		}
	}
	spec := runloom.RunSpec{
		ThreadID: thread.ThreadID, GraphName: "desk", Input: map[string]any{"amount": 2000},
		StreamModes: []runloom.StreamMode{runloom.StreamModeCustom, runloom.StreamModeMessages},
	}
	read := func(spec runloom.RunSpec) {
		for part, err := range client.StreamRun(ctx, spec) {
			seen(part, err)
			if found, ok := part.Payload.(*runloom.End); ok {
				end = found
			}
		}
	}
	read(spec)
	if end.State != runloom.RunStateAwaitingInput || end.Interrupts[0].Value.Map()["question"] != "Approve?" {
		t.Fatalf("%+v", end)
	}
	if end.Interrupts[0].ResponseSchema.Map()["type"] != "object" {
		t.Fatalf("%+v", end.Interrupts[0])
	}
	if !slices.Equal(text, []string{"One ", "moment."}) {
		t.Fatalf("%q", text)
	}
	spec.Input, spec.Command = nil, &runloom.Command{Resume: map[string]any{"ok": true}}
	read(spec)
	if end.State != runloom.RunStateSucceeded {
		t.Fatalf("%+v %v", end, end.Error)
	}
	if !slices.Equal(custom, []string{`{"status":"looking"}`, `{"searching":"tea"}`}) {
		t.Fatalf("%v", custom)
	}
	var values struct {
		Log      []string
		Messages []struct{ Content json.RawMessage }
	}
	state := must(client.GetState(ctx, runloom.GetStateRequest{ThreadID: thread.ThreadID}))(t)
	if err := state.Checkpoint.Values.Decode(&values); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(values.Log, []string{"looked up", "approved true"}) || string(values.Messages[1].Content) != `"found tea"` {
		t.Fatalf("%s", state.Checkpoint.Values)
	}
}

const chain = `
runloom: v1
name: chain
state: { log: { reducer: append } }
nodes:
  one: { worker: { queue: chain, handler: step } }
  two: { worker: { queue: chain, handler: step } }
  three: { worker: { queue: chain, handler: step } }
edges:
  - { from: START, to: one }
  - { from: one, to: two }
  - { from: two, to: three }
`

// Wherever the connection of the worker is cut, the run ends, with the writes of each task once.
func TestRunEndsWhereverTheWorkersConnectionIsCut(t *testing.T) {
	server := testserver.Start(t, map[string]string{"chain.yaml": chain})
	client, ctx := connect(t, server.Address), limit(t)
	for frames := 0; ; frames++ {
		proxy := must(cutter.New(server.Address, frames))(t)
		worker := runloom.NewWorker(proxy.Address, runloom.WorkerOptions{Queue: "chain"}, fast())
		worker.AddNode("step", func(_ context.Context, task *runloom.TaskContext) (any, error) {
			return map[string]any{"log": []string{task.Node}}, nil
		})
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- worker.Run(running) }()
		done := must(client.WaitRun(ctx, runloom.WaitRunRequest{Run: &runloom.RunSpec{GraphName: "chain", Input: map[string]any{}}}))(t)
		var values struct{ Log []string }
		if err := done.Values.Decode(&values); err != nil || !slices.Equal(values.Log, []string{"one", "two", "three"}) {
			t.Fatalf("cut after %d frames: %v, %v, %v", frames, values.Log, err, done.End.Error)
		}
		stop()
		if err := within(t, ended); err != nil {
			t.Fatal(err)
		}
		proxy.Close()
		if !proxy.Cut() || proxy.Connections() == 1 {
			if frames < 6 {
				t.Fatalf("only %d cuts", frames)
			}
			return
		}
	}
}

func TestCancellingARunCancelsTheContextOfItsTask(t *testing.T) {
	server := testserver.Start(t, map[string]string{"chain.yaml": chain})
	client, ctx := connect(t, server.Address), limit(t)
	started, cause := make(chan string, 1), make(chan error, 1)
	worker := runloom.NewWorker(server.Address, runloom.WorkerOptions{Queue: "chain"}, fast())
	worker.AddNode("step", func(ctx context.Context, task *runloom.TaskContext) (any, error) {
		started <- task.RunID
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil, context.Cause(ctx)
	})
	running, stop := context.WithCancel(ctx)
	defer stop()
	go worker.Run(running)
	must(client.CreateRun(ctx, runloom.CreateRunRequest{Run: &runloom.RunSpec{GraphName: "chain", Input: map[string]any{}}}))(t)
	run := must(client.CancelRun(ctx, runloom.CancelRunRequest{RunID: within(t, started), Wait: true}))(t)
	if run.State != runloom.RunStateCancelled {
		t.Fatalf("%+v", run)
	}
	var cancelled *runloom.Cancelled
	if err := within(t, cause); !asCancelled(err, &cancelled) || cancelled.Reason != runloom.CancelTaskReasonRunCancelled {
		t.Fatalf("%v", err)
	}
}

func asCancelled(err error, into **runloom.Cancelled) bool { return errors.As(err, into) }
