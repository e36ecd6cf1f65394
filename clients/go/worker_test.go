package runloom_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	runloom "runloom.dev/clients/go"
	v1 "runloom.dev/clients/go/runloom/v1"
)

// fakeServer speaks the server's side of Attach as a test wants it: one function for each connection, in turn.
type fakeServer struct {
	v1.UnimplementedWorkersServer
	connections chan func(*peer)
	address     string
}

// peer is one connection of a worker.
type peer struct {
	t      *testing.T
	stream grpc.BidiStreamingServer[v1.AttachRequest, v1.AttachResponse]
	hello  *v1.Hello
	// credit that the worker gave and that tasks have not used.
	credit int
}

func newFakeServer(t *testing.T, connections ...func(*peer)) *fakeServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fake := &fakeServer{connections: make(chan func(*peer), len(connections)), address: listener.Addr().String()}
	for _, connection := range connections {
		fake.connections <- connection
	}
	server := grpc.NewServer()
	v1.RegisterWorkersServer(server, fake)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return fake
}

func (f *fakeServer) Attach(stream grpc.BidiStreamingServer[v1.AttachRequest, v1.AttachResponse]) error {
	var play func(*peer)
	select {
	case play = <-f.connections:
	default:
		<-stream.Context().Done()
		return nil
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	welcome := &v1.Welcome{HeartbeatTimeout: durationpb.New(300 * time.Millisecond)}
	if err := stream.Send(&v1.AttachResponse{Message: &v1.AttachResponse_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	play(&peer{stream: stream, hello: first.GetHello()})
	return nil
}

// next is the next message that is not a heartbeat of the worker or credit.
func (p *peer) next() *v1.AttachRequest {
	for {
		message, err := p.stream.Recv()
		if err != nil {
			return nil
		}
		if ready := message.GetReady(); ready != nil {
			p.credit += int(ready.Tasks)
			continue
		}
		if beat := message.GetHeartbeat(); beat != nil && len(beat.Token) == 0 {
			continue
		}
		return message
	}
}

func (p *peer) ready() {
	for p.credit == 0 {
		message, err := p.stream.Recv()
		if err != nil {
			return
		}
		p.credit += int(message.GetReady().GetTasks())
	}
}

func (p *peer) task(task *v1.WorkerTask) {
	p.credit--
	task.Kind, task.Handler, task.TaskId = v1.HandlerKind_HANDLER_KIND_NODE, "node", "task-"+string(task.Token)
	_ = p.stream.Send(&v1.AttachResponse{Message: &v1.AttachResponse_Task{Task: task}})
}

func (p *peer) stored(token []byte) {
	_ = p.stream.Send(&v1.AttachResponse{Message: &v1.AttachResponse_Stored{Stored: &v1.Stored{Token: token}}})
}

func text(json string) *v1.Json { return &v1.Json{Encoding: &v1.Json_Json{Json: json}} }

func whole(channel, version, value string) *v1.ChannelValue {
	return &v1.ChannelValue{Channel: channel, Version: version, Value: &v1.ChannelValue_Whole{Whole: text(value)}}
}

// runWorker runs a worker with one node until a test is over. It returns what Run returned.
func runWorker(t *testing.T, address string, options runloom.WorkerOptions, node func(context.Context, *runloom.TaskContext) (any, error)) (context.CancelFunc, chan error) {
	t.Helper()
	options.Queue = "test"
	worker := runloom.NewWorker(address, options, fast())
	worker.AddNode("node", node)
	ctx, cancel := context.WithCancel(limit(t))
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	t.Cleanup(cancel)
	return cancel, ended
}

func within[T any](t *testing.T, from chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(20 * time.Second):
		t.Fatal("nothing happened within 20 s")
		panic("unreachable")
	}
}

func echo(_ context.Context, task *runloom.TaskContext) (any, error) { return task.JSON(), nil }

func TestWorkerSendsAnOutcomeAgainUntilItIsStored(t *testing.T) {
	outcomes := make(chan string, 2)
	fake := newFakeServer(t, func(p *peer) {
		p.ready()
		p.task(&v1.WorkerTask{Token: []byte("a"), State: []*v1.ChannelValue{whole("n", "", "1")}})
		outcomes <- p.next().GetDone().GetUpdate().GetUpdate().GetJson()
		// The connection ends without a Stored.
	}, func(p *peer) {
		outcomes <- p.next().GetDone().GetUpdate().GetUpdate().GetJson()
		p.stored([]byte("a"))
		if p.next() != nil {
			outcomes <- "unexpected"
		}
	})
	cancel, ended := runWorker(t, fake.address, runloom.WorkerOptions{}, echo)
	for range 2 {
		if got := within(t, outcomes); got != `{"n":1}` {
			t.Fatal(got)
		}
	}
	cancel()
	if err := within(t, ended); err != nil {
		t.Fatal(err)
	}
}

func TestWorkerCachesStateAndAsksForWhatIsMissing(t *testing.T) {
	updates := make(chan string, 10)
	fake := newFakeServer(t, func(p *peer) {
		p.ready()
		result := func() {
			done := p.next().GetDone()
			p.stored(done.GetToken())
			updates <- done.GetUpdate().GetUpdate().GetJson()
		}
		p.task(&v1.WorkerTask{Token: []byte("1"), State: []*v1.ChannelValue{whole("list", "v1", "[1,2,3]"), whole("n", "w1", "7")}})
		result()
		unchanged := &v1.ChannelValue{Channel: "n", Version: "w1", Value: &v1.ChannelValue_Unchanged{Unchanged: &v1.Unchanged{}}}
		appended := func(base, version string, keep uint64, items string) *v1.ChannelValue {
			return &v1.ChannelValue{Channel: "list", Version: version, Value: &v1.ChannelValue_Appended{
				Appended: &v1.Appended{Base: base, Keep: keep, Items: text(items)},
			}}
		}
		p.task(&v1.WorkerTask{Token: []byte("2"), State: []*v1.ChannelValue{appended("v1", "v2", 2, "[4,5]"), unchanged}})
		result()
		p.task(&v1.WorkerTask{Token: []byte("3"), State: []*v1.ChannelValue{appended("v2", "v3", 4, "[6]"), unchanged}})
		result()
		p.task(&v1.WorkerTask{Token: []byte("4"), State: []*v1.ChannelValue{appended("v9", "v10", 1, "[6]"), unchanged}})
		missing := p.next().GetMissing()
		if len(missing.GetChannels()) != 1 || missing.GetChannels()[0] != "list" {
			updates <- "unexpected"
			return
		}
		_ = p.stream.Send(&v1.AttachResponse{Message: &v1.AttachResponse_Values{Values: &v1.ChannelValues{
			Token: missing.Token, Values: []*v1.ChannelValue{whole("list", "v10", "[9]")},
		}}})
		result()
		p.next()
	})
	runWorker(t, fake.address, runloom.WorkerOptions{}, echo)
	for _, want := range []string{`{"list":[1,2,3],"n":7}`, `{"list":[1,2,4,5],"n":7}`, `{"list":[1,2,4,5,6],"n":7}`, `{"list":[9],"n":7}`} {
		if got := within(t, updates); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

func TestWorkerGivesCreditForWhatItCanExecute(t *testing.T) {
	credit := make(chan int, 10)
	fake := newFakeServer(t, func(p *peer) {
		p.ready()
		credit <- p.credit
		p.task(&v1.WorkerTask{Token: []byte("a")})
		p.task(&v1.WorkerTask{Token: []byte("b")})
		done := p.next().GetDone()
		p.ready()
		credit <- p.credit
		p.stored(done.GetToken())
		p.next()
	})
	release := make(chan struct{})
	runWorker(t, fake.address, runloom.WorkerOptions{MaxTasks: 2}, func(_ context.Context, task *runloom.TaskContext) (any, error) {
		if task.TaskID == "task-b" {
			<-release
		}
		return nil, nil
	})
	if first, second := within(t, credit), within(t, credit); first != 2 || second != 1 {
		t.Fatalf("credit of %d, then of %d", first, second)
	}
	close(release)
}

func TestHandlersEmitAskFailAndAreCancelled(t *testing.T) {
	got := make(chan *v1.AttachRequest, 20)
	fake := newFakeServer(t, func(p *peer) {
		p.ready()
		read := func(count int) {
			for range count {
				message := p.next()
				if done := message.GetDone(); done != nil {
					p.stored(done.Token)
				}
				got <- message
			}
		}
		p.task(&v1.WorkerTask{Token: []byte("ask")})
		read(3)
		p.task(&v1.WorkerTask{Token: []byte("ask"), Answers: []*v1.Json{text(`"yes"`)}, HeartbeatDetails: text(`5`)})
		read(3)
		p.task(&v1.WorkerTask{Token: []byte("fail")})
		read(1)
		p.task(&v1.WorkerTask{Token: []byte("panic")})
		read(1)
		p.task(&v1.WorkerTask{Token: []byte("wait")})
		_ = p.stream.Send(&v1.AttachResponse{Message: &v1.AttachResponse_Cancel{Cancel: &v1.CancelTask{
			Token: []byte("wait"), Reason: v1.CancelTaskReason_CANCEL_TASK_REASON_RUN_CANCELLED,
		}}})
		read(1)
		p.next()
	})
	runWorker(t, fake.address, runloom.WorkerOptions{}, func(ctx context.Context, task *runloom.TaskContext) (any, error) {
		switch task.TaskID {
		case "task-ask":
			if err := task.Emit(map[string]any{"status": "asking"}); err != nil {
				return nil, err
			}
			if err := task.Message("model").Text("Hm"); err != nil {
				return nil, err
			}
			var answer string
			if err := task.Interrupt("Really?", &answer); err != nil {
				return nil, err
			}
			return runloom.NodeUpdate{Update: map[string]any{"answer": answer}, Goto: []runloom.Goto{{Node: "next"}}}, nil
		case "task-fail":
			return nil, &runloom.Failure{Type: "Busy", Message: "busy", Retryable: runloom.RetryableYes, RetryDelay: time.Second}
		case "task-panic":
			panic("broken")
		default:
			<-ctx.Done()
			var cancelled *runloom.Cancelled
			if !errors.As(context.Cause(ctx), &cancelled) || cancelled.Reason != runloom.CancelTaskReasonRunCancelled {
				t.Errorf("cause: %v", context.Cause(ctx))
			}
			return nil, context.Cause(ctx)
		}
	})
	check := func(ok bool, message *v1.AttachRequest) {
		t.Helper()
		if !ok {
			t.Fatalf("unexpected: %v", message)
		}
	}
	message := within(t, got)
	check(message.GetEmit().GetCustom().GetJson() == `{"status":"asking"}`, message)
	message = within(t, got)
	chunk := message.GetEmit().GetChunk().GetChunk()
	check(chunk.GetContent()[0].GetText() == "Hm" && chunk.GetRole() == v1.MessageRole_MESSAGE_ROLE_AI && chunk.GetModel() == "model", message)
	message = within(t, got)
	question := message.GetDone().GetInterrupts().GetQuestions()
	check(len(question) == 1 && question[0].Index == 0 && question[0].Value.GetJson() == `"Really?"`, message)
	within(t, got)
	within(t, got)
	message = within(t, got)
	update := message.GetDone().GetUpdate()
	check(update.GetUpdate().GetJson() == `{"answer":"yes"}` && update.GetGoto()[0].Node == "next", message)
	message = within(t, got)
	failure := message.GetDone().GetFailure()
	check(failure.GetType() == "Busy" && failure.GetRetryable() == v1.Retryable_RETRYABLE_YES && failure.GetRetryDelay().AsDuration() == time.Second, message)
	message = within(t, got)
	check(message.GetDone().GetFailure().GetType() == "panic" && message.GetDone().GetFailure().GetDetails() != "", message)
	message = within(t, got)
	check(message.GetDone().GetFailure() != nil, message)
}

func TestWorkerDrains(t *testing.T) {
	order := make(chan string, 10)
	started := make(chan struct{})
	fake := newFakeServer(t, func(p *peer) {
		p.ready()
		p.task(&v1.WorkerTask{Token: []byte("a")})
		for message := p.next(); message != nil; message = p.next() {
			switch {
			case message.GetDraining() != nil:
				order <- "draining"
			case message.GetDone() != nil:
				order <- "done"
				p.stored(message.GetDone().Token)
			}
		}
		order <- "closed"
	})
	release := make(chan struct{})
	cancel, ended := runWorker(t, fake.address, runloom.WorkerOptions{}, func(context.Context, *runloom.TaskContext) (any, error) {
		close(started)
		<-release
		return nil, nil
	})
	within(t, started)
	cancel()
	if got := within(t, order); got != "draining" {
		t.Fatal(got)
	}
	close(release)
	if got := within(t, order); got != "done" {
		t.Fatal(got)
	}
	if got := within(t, order); got != "closed" {
		t.Fatal(got)
	}
	if err := within(t, ended); err != nil {
		t.Fatal(err)
	}
}

func TestWorkerSaysThatItIsAliveAndWhatItIs(t *testing.T) {
	hello, beat := make(chan *v1.Hello, 1), make(chan bool, 1)
	fake := newFakeServer(t, func(p *peer) {
		hello <- p.hello
		for {
			message, err := p.stream.Recv()
			if err != nil {
				return
			}
			if message.GetHeartbeat() != nil {
				beat <- true
				return
			}
		}
	})
	runWorker(t, fake.address, runloom.WorkerOptions{Documents: []string{"document"}}, echo)
	got := within(t, hello)
	if got.Sdk != "go" || got.SdkVersion != runloom.Version || got.Queue != "test" || len(got.Handlers) != 1 || !got.CachesState ||
		got.Documents[0] != "document" {
		t.Fatalf("%v", got)
	}
	within(t, beat)
}

// With durability EXIT the server stores outcomes only when the run stops: the worker must not wait for that.
func TestWorkerTakesTasksWhileOutcomesAreNotStored(t *testing.T) {
	const tasks = 12_000
	finished := make(chan int, 1)
	fake := newFakeServer(t, func(p *peer) {
		count := 0
		for count < tasks {
			p.ready()
			for sent := p.credit; sent > 0; sent-- {
				p.task(&v1.WorkerTask{Token: []byte(strconv.Itoa(count))})
				count++
				if p.next().GetDone() == nil {
					break
				}
			}
		}
		finished <- count
	})
	runWorker(t, fake.address, runloom.WorkerOptions{MaxTasks: 10}, echo)
	if got := within(t, finished); got < tasks {
		t.Fatal(got)
	}
}
