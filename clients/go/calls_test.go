package runloom_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	runloom "runloom.dev/clients/go"
	"runloom.dev/clients/go/internal/cutter"
	"runloom.dev/clients/go/internal/testserver"
)

func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func TestThreadsRunsStateAndHistory(t *testing.T) {
	server := testserver.Start(t, map[string]string{"approval.yaml": testserver.Example(t, "approval.yaml")})
	client, ctx := connect(t, server.Address), limit(t)

	thread := must(client.CreateThread(ctx, runloom.CreateThreadRequest{Metadata: map[string]any{"big": int64(1)<<62 + 1, "user": "ann"}}))(t)
	metadata := thread.Metadata.Map()
	if metadata["big"] != int64(1)<<62+1 || metadata["user"] != "ann" {
		t.Fatalf("metadata: %v", thread.Metadata)
	}
	asked := must(client.WaitRun(ctx, runloom.WaitRunRequest{Run: &runloom.RunSpec{
		ThreadID: thread.ThreadID, GraphName: "approval", Input: map[string]any{"topic": "tea"},
	}}))(t)
	if asked.End.State != runloom.RunStateAwaitingInput || len(asked.Interrupts) != 1 {
		t.Fatalf("%+v", asked.End)
	}
	if question := asked.Interrupts[0].Value.Map(); question["question"] != "Publish this?" || question["tries"] != int64(1) {
		t.Fatalf("%v", question)
	}
	done := must(client.WaitRun(ctx, runloom.WaitRunRequest{Run: &runloom.RunSpec{
		ThreadID: thread.ThreadID, GraphName: "approval",
		Command: &runloom.Command{ResumeByID: map[string]any{asked.Interrupts[0].ID: map[string]any{"approved": true}}},
	}}))(t)
	var values struct{ Status, Topic string }
	if err := done.Values.Decode(&values); err != nil || values.Status != "published" || values.Topic != "tea" {
		t.Fatalf("%v %v", done.Values, err)
	}

	state := must(client.GetState(ctx, runloom.GetStateRequest{ThreadID: thread.ThreadID}))(t)
	if state.Checkpoint.Values.Map()["status"] != "published" || len(state.Checkpoint.Next) != 0 {
		t.Fatalf("%+v", state.Checkpoint)
	}
	count := 0
	for checkpoint, err := range client.ListCheckpoints(ctx, runloom.ListCheckpointsRequest{ThreadID: thread.ThreadID, PageSize: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		if checkpoint.ThreadID != thread.ThreadID || checkpoint.CreateTime.IsZero() {
			t.Fatalf("%+v", checkpoint)
		}
		count++
	}
	if count < 4 {
		t.Fatalf("%d checkpoints", count)
	}
	at := must(client.UpdateState(ctx, runloom.UpdateStateRequest{ThreadID: thread.ThreadID, Values: map[string]any{"topic": "milk"}, AsNode: "publish"}))(t)
	if at.CheckpointID == "" {
		t.Fatal("no checkpoint")
	}
	runs := 0
	for run, err := range client.ListRuns(ctx, runloom.ListRunsRequest{ThreadID: thread.ThreadID, PageSize: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		if run.RequestID == "" {
			t.Fatal("a run without a request id")
		}
		runs++
	}
	if runs != 2 {
		t.Fatalf("%d runs", runs)
	}
	copied := must(client.CopyThread(ctx, runloom.CopyThreadRequest{ThreadID: thread.ThreadID}))(t)
	must(client.UpdateThread(ctx, runloom.UpdateThreadRequest{
		Thread:     &runloom.Thread{ThreadID: copied.ThreadID, Metadata: runloom.MustEncode(map[string]any{"user": "bob"})},
		UpdateMask: []string{"metadata.user"},
	}))(t)
	read := must(client.GetThread(ctx, runloom.GetThreadRequest{ThreadID: copied.ThreadID, IncludeValues: true}))(t)
	if read.Metadata.Map()["user"] != "bob" || read.Values.Map()["topic"] != "milk" {
		t.Fatalf("%+v", read)
	}
	if err := client.DeleteThread(ctx, runloom.DeleteThreadRequest{ThreadID: copied.ThreadID}); err != nil {
		t.Fatal(err)
	}
	_, err := client.GetThread(ctx, runloom.GetThreadRequest{ThreadID: copied.ThreadID})
	if !errors.Is(err, runloom.ReasonThreadNotFound) {
		t.Fatalf("%v", err)
	}
}

func TestAssistantsCronsItemsAndGraphs(t *testing.T) {
	server := testserver.Start(t, map[string]string{"talk.yaml": talk})
	client, ctx := connect(t, server.Address), limit(t)

	assistant := must(client.CreateAssistant(ctx, runloom.CreateAssistantRequest{
		GraphName: "talk", Name: "Talker", Config: &runloom.RunConfig{Configurable: map[string]any{"tone": "kind"}},
	}))(t)
	var configurable struct{ Tone string }
	if err := runloom.Decode(assistant.Config.Configurable, &configurable); err != nil || configurable.Tone != "kind" {
		t.Fatalf("%+v %v", assistant.Config, err)
	}
	updated := must(client.UpdateAssistant(ctx, runloom.UpdateAssistantRequest{
		Assistant: &runloom.Assistant{AssistantID: assistant.AssistantID, Name: "Speaker"}, UpdateMask: []string{"name"},
	}))(t)
	if updated.Version != 2 || updated.Name != "Speaker" {
		t.Fatalf("%+v", updated)
	}
	cron := must(client.CreateCron(ctx, runloom.CreateCronRequest{Cron: &runloom.Cron{
		Schedule: "0 0 1 1 *", Run: &runloom.RunSpec{AssistantID: assistant.AssistantID, Input: map[string]any{}},
	}}))(t)
	if cron.NextRunTime.Before(time.Now()) || cron.Run.AssistantID != assistant.AssistantID {
		t.Fatalf("%+v", cron)
	}
	if err := client.DeleteCron(ctx, runloom.DeleteCronRequest{CronID: cron.CronID}); err != nil {
		t.Fatal(err)
	}

	namespace := []string{"users", "ann"}
	if err := client.PutItem(ctx, runloom.PutItemRequest{Namespace: namespace, Key: "likes", Value: map[string]any{"tea": true}, TTL: time.Hour}); err != nil {
		t.Fatal(err)
	}
	item := must(client.GetItem(ctx, runloom.GetItemRequest{Namespace: namespace, Key: "likes"}))(t)
	if item.Value.Map()["tea"] != true || item.ExpireTime.IsZero() {
		t.Fatalf("%+v", item)
	}
	for found, err := range client.SearchItems(ctx, runloom.SearchItemsRequest{NamespacePrefix: []string{"users"}, Filter: map[string]any{"tea": true}}) {
		if err != nil || found.Key != "likes" {
			t.Fatal(found, err)
		}
	}
	if missing := must(client.GetItem(ctx, runloom.GetItemRequest{Namespace: namespace, Key: "no"}))(t); missing != nil {
		t.Fatalf("%+v", missing)
	}

	registered := must(client.RegisterGraph(ctx, runloom.RegisterGraphRequest{Document: "runloom: v1\nname: small\nstate: { n: {} }\nnodes: { a: { update: { n: '1' } } }\nedges: [ { from: START, to: a } ]\n"}))(t)
	if registered.Graph.Name != "small" || !registered.Changed {
		t.Fatalf("%+v", registered)
	}
	var names []string
	for graph, err := range client.ListGraphs(ctx, runloom.ListGraphsRequest{PageSize: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, graph.Name)
	}
	if len(names) != 2 {
		t.Fatalf("%v", names)
	}
	drawing := must(client.GetAssistantGraph(ctx, runloom.GetAssistantGraphRequest{AssistantID: assistant.AssistantID}))(t)
	if len(drawing.Nodes) != 4 || drawing.Mermaid == "" {
		t.Fatalf("%+v", drawing)
	}
}

func TestErrorsHaveTheirReasons(t *testing.T) {
	server := testserver.Start(t, map[string]string{"talk.yaml": talk})
	client, ctx := connect(t, server.Address), limit(t)

	_, err := client.CreateRun(ctx, runloom.CreateRunRequest{Run: &runloom.RunSpec{GraphName: "tlak", Input: map[string]any{}}})
	var known *runloom.Error
	if !errors.Is(err, runloom.ReasonGraphUnknown) || errors.Is(err, runloom.ReasonInternal) || !errors.As(err, &known) {
		t.Fatalf("%v", err)
	}
	if known.Code != codes.NotFound || known.Metadata["graph"] != "tlak" || known.Transient() {
		t.Fatalf("%+v", known)
	}
	_, err = client.CreateRun(ctx, runloom.CreateRunRequest{Run: &runloom.RunSpec{GraphName: "talk", Input: map[string]any{"messages": 3}}})
	if !errors.Is(err, runloom.ReasonInputInvalid) || !errors.As(err, &known) || len(known.Violations) == 0 {
		t.Fatalf("%v", err)
	}
	// What cannot be encoded is not sent.
	_, err = client.CreateRun(ctx, runloom.CreateRunRequest{Run: &runloom.RunSpec{GraphName: "talk", Input: make(chan int)}})
	if err == nil || errors.As(err, &known) {
		t.Fatalf("%v", err)
	}
	// A call that the caller gives up is not repeated.
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err = client.GetThread(cancelled, runloom.GetThreadRequest{ThreadID: "x"}); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	for _, err := range client.StreamRun(cancelled, talkSpec()) {
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
	}
}

// Whenever the connection breaks during the creation of a run, there is one run afterwards.
func TestCreatingARunIsSafeToRepeat(t *testing.T) {
	server := testserver.Start(t, map[string]string{"talk.yaml": talk})
	ctx, direct := limit(t), connect(t, server.Address)
	for frames := range 6 {
		proxy := must(cutter.New(server.Address, frames))(t)
		client := connect(t, proxy.Address)
		thread := must(direct.CreateThread(ctx, runloom.CreateThreadRequest{}))(t)
		spec := talkSpec()
		spec.ThreadID = thread.ThreadID
		run := must(client.CreateRun(ctx, runloom.CreateRunRequest{Run: &spec}))(t)
		count := 0
		for other, err := range direct.ListRuns(ctx, runloom.ListRunsRequest{ThreadID: thread.ThreadID}) {
			if err != nil || other.RunID != run.RunID {
				t.Fatal(other, err)
			}
			count++
		}
		if count != 1 {
			t.Fatalf("cut after %d frames: %d runs", frames, count)
		}
		proxy.Close()
	}
}
