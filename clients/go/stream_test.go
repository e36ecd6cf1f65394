package runloom_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	runloom "runloom.dev/clients/go"
	"runloom.dev/clients/go/internal/cutter"
	"runloom.dev/clients/go/internal/testserver"
)

const talk = `
runloom: v1
name: talk
state:
  messages: { reducer: messages }
  log: { reducer: append }
models:
  bot: { scripted: { responses: [ { content: "one two three" } ] } }
nodes:
  say: { chat_model: { model: bot } }
  note: { steps: [ { emit: '{"at": "note"}' }, { update: { log: '["noted"]' } } ] }
edges:
  - { from: START, to: say }
  - { from: say, to: note }
`

func fast() runloom.Option {
	return runloom.WithRetry(runloom.RetryPolicy{MaxRetries: 15, InitialDelay: time.Millisecond, MaxDelay: 200 * time.Millisecond})
}

func connect(t *testing.T, address string) *runloom.Client {
	t.Helper()
	client, err := runloom.NewClient(address, fast())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func talkSpec() runloom.RunSpec {
	return runloom.RunSpec{
		GraphName: "talk",
		Input:     map[string]any{"messages": []any{map[string]any{"role": "user", "content": "go"}}},
		StreamModes: []runloom.StreamMode{
			runloom.StreamModeValues, runloom.StreamModeUpdates, runloom.StreamModeMessages, runloom.StreamModeCustom, runloom.StreamModeTasks,
			runloom.StreamModeEvents,
		},
	}
}

// numbered returns the kinds of the parts with a number, and fails if one is missing or comes twice.
func numbered(t *testing.T, stream runloom.Stream) []string {
	t.Helper()
	var kinds []string
	for part, err := range stream {
		if err != nil {
			t.Fatal(err)
		}
		if part.Seq == 0 {
			if _, ok := part.Payload.(*runloom.Metadata); ok && len(kinds) > 0 {
				t.Fatalf("the stream begins again after part %d", len(kinds))
			}
			continue
		}
		if part.Seq != uint64(len(kinds)+1) {
			t.Fatalf("part %d follows part %d", part.Seq, len(kinds))
		}
		kinds = append(kinds, fmt.Sprintf("%T", part.Payload))
	}
	return kinds
}

func TestStreamIsWholeWhereverTheConnectionIsCut(t *testing.T) {
	server := testserver.Start(t, map[string]string{"talk.yaml": talk})
	ctx := limit(t)
	want := numbered(t, connect(t, server.Address).StreamRun(ctx, talkSpec()))
	if len(want) < 20 || want[len(want)-1] != "*runloom.End" {
		t.Fatalf("unexpected parts: %v", want)
	}
	for frames := 0; ; frames++ {
		proxy, err := cutter.New(server.Address, frames)
		if err != nil {
			t.Fatal(err)
		}
		got := numbered(t, connect(t, proxy.Address).StreamRun(ctx, talkSpec()))
		proxy.Close()
		if !slices.Equal(got, want) {
			t.Fatalf("cut after %d frames: got %v, want %v", frames, got, want)
		}
		if !proxy.Cut() || proxy.Connections() == 1 {
			if frames < len(want) {
				t.Fatalf("only %d cuts for %d parts", frames, len(want))
			}
			return
		}
	}
}

func TestThreadStreamIsWholeWhereverTheConnectionIsCut(t *testing.T) {
	server := testserver.Start(t, map[string]string{"talk.yaml": talk})
	ctx := limit(t)
	direct := connect(t, server.Address)
	thread, err := direct.CreateThread(ctx, runloom.CreateThreadRequest{})
	if err != nil {
		t.Fatal(err)
	}
	spec := talkSpec()
	spec.ThreadID = thread.ThreadID
	for frames := 4; frames < 40; frames += 5 {
		proxy, err := cutter.New(server.Address, frames)
		if err != nil {
			t.Fatal(err)
		}
		started, ends, last := false, 0, map[string]uint64{}
		for part, err := range connect(t, proxy.Address).StreamThread(ctx, runloom.StreamThreadRequest{ThreadID: thread.ThreadID}) {
			if err != nil {
				t.Fatal(err)
			}
			if !started {
				started = true
				for range 2 {
					if _, err := direct.CreateRun(ctx, runloom.CreateRunRequest{Run: &spec}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if part.Seq > 0 {
				if part.Seq != last[part.RunID]+1 {
					t.Fatalf("cut after %d frames: part %d of run %s follows part %d", frames, part.Seq, part.RunID, last[part.RunID])
				}
				last[part.RunID] = part.Seq
			}
			if _, ok := part.Payload.(*runloom.End); ok {
				if ends++; ends == 2 {
					break
				}
			}
		}
		proxy.Close()
	}
}

const slow = `
runloom: v1
name: slow
state: { log: { reducer: append } }
nodes:
  one: { steps: [ { sleep_ms: '300' }, { update: { log: '["one"]' } } ] }
  two: { steps: [ { sleep_ms: '300' }, { update: { log: '["two"]' } } ] }
edges:
  - { from: START, to: one }
  - { from: one, to: two }
`

func TestStreamGoesOnAfterACrashOfTheServer(t *testing.T) {
	server := testserver.Start(t, map[string]string{"slow.yaml": slow})
	client := connect(t, server.Address)
	var updates []string
	var state struct{ Log []string }
	last := uint64(0)
	for part, err := range client.StreamRun(limit(t), runloom.RunSpec{
		GraphName: "slow", Input: map[string]any{}, StreamModes: []runloom.StreamMode{runloom.StreamModeUpdates, runloom.StreamModeValues},
		Durability: runloom.DurabilitySync,
	}) {
		if err != nil {
			t.Fatal(err)
		}
		if part.Seq > 0 && part.Seq <= last {
			t.Fatalf("part %d after part %d", part.Seq, last)
		}
		last = max(last, part.Seq)
		switch payload := part.Payload.(type) {
		case *runloom.Update:
			updates = append(updates, payload.Node)
			if payload.Node == "one" {
				server.Kill()
				server.Start()
			}
		case *runloom.Value:
			if err := payload.State.Decode(&state); err != nil {
				t.Fatal(err)
			}
		case *runloom.End:
			if payload.State != runloom.RunStateSucceeded {
				t.Fatalf("the run ended as %v: %v", payload.State, payload.Error)
			}
		}
	}
	if !slices.Equal(updates, []string{"one", "two"}) || !slices.Equal(state.Log, []string{"one", "two"}) {
		t.Fatalf("updates %v, log %v", updates, state.Log)
	}
}
