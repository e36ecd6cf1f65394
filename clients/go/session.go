package runloom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	v1 "runloom.dev/clients/go/runloom/v1"
)

// maxUnstored is how many outcomes the worker holds for a new connection. With durability EXIT the server stores them when the run stops; if there are more,
// the oldest are forgotten, and a server that does not have them executes their tasks again.
const maxUnstored = 10_000

// session is a worker's connection to one server, made again when it breaks.
type session struct {
	worker *Worker
	learn  func(address string)
	addr   string
	cache  *cache

	mutex sync.Mutex
	// The present connection; nil while there is none.
	conn *connection
	// How many tasks this server may give the worker at once.
	share int
	// The credit that the server has, and the tasks under way.
	credit int
	tasks  map[string]*execution
	// Outcomes that the server has not stored, in order.
	unstored map[string]*v1.Done
	order    []string
	draining bool
	// Closed when the worker drains and has nothing left.
	drained chan struct{}
}

// execution is a task under way, or one that waits for values.
type execution struct {
	task    *v1.WorkerTask
	missing map[string]bool
	values  map[string]JSON
	cancel  context.CancelCauseFunc
}

func newSession(w *Worker, address string, learn func(string)) *session {
	return &session{
		worker: w, learn: learn, addr: address, cache: newCache(w.options.CacheBytes),
		tasks: map[string]*execution{}, unstored: map[string]*v1.Done{}, drained: make(chan struct{}),
	}
}

// run attaches, again and again, until the worker has drained. It returns an error if the server refuses the worker.
func (s *session) run(ctx context.Context) error {
	client := s.worker.client
	if s.addr != s.worker.address {
		var err error
		if client, err = NewClient(s.addr, s.worker.settings...); err != nil {
			return err
		}
		defer client.Close()
	}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	go func() {
		select {
		case <-ctx.Done():
			s.drain()
		case <-work.Done():
			return
		}
		select {
		case <-time.After(s.worker.options.DrainTimeout):
		case <-s.drained:
		}
		cancel(&Cancelled{})
	}()
	policy := client.options.retry
	for failures := 1; ; failures++ {
		attached, err := s.attach(work, client)
		if s.isDrained() || work.Err() != nil {
			return nil
		}
		if attached {
			failures = 1
		}
		var known *Error
		if errors.As(err, &known) && !known.Transient() && !errors.Is(err, ReasonWorkerLost) {
			return err
		}
		if s.addr != s.worker.address && failures > policy.MaxRetries {
			// A server that has left; its tasks are with others.
			return nil
		}
		var asked time.Duration
		if known != nil {
			asked = known.RetryDelay
		}
		select {
		case <-time.After(policy.delay(failures, asked)):
		case <-s.drained:
			return nil
		case <-work.Done():
			return nil
		}
	}
}

// attach is one connection. It reports whether the server has welcomed the worker.
func (s *session) attach(ctx context.Context, client *Client) (bool, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := v1.NewWorkersClient(client.conn).Attach(call)
	if err != nil {
		return false, wrap(ctx, err)
	}
	c := newConnection()
	go c.run(call, stream)
	c.push(&v1.AttachRequest{Message: &v1.AttachRequest_Hello{Hello: s.worker.hello()}})
	first, err := stream.Recv()
	if err != nil {
		return false, wrap(ctx, err)
	}
	welcome := first.GetWelcome()
	if welcome == nil {
		return false, &Error{Code: codes.Internal, Message: "the server's first message is not a Welcome"}
	}
	s.welcome(welcome)
	interval := welcome.GetHeartbeatTimeout().AsDuration() / 3
	if interval <= 0 {
		interval = s.worker.options.HeartbeatTimeout / 3
	}
	go c.beat(call, interval)
	s.connected(c)
	defer s.disconnected(c)
	go func() {
		select {
		case <-s.drained:
			c.close()
		case <-call.Done():
		}
	}()
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return true, broken("the server ended the worker's connection")
		}
		if err != nil {
			return true, wrap(ctx, err)
		}
		s.receive(ctx, message)
	}
}

func (s *session) welcome(welcome *v1.Welcome) {
	if len(welcome.Servers) < 2 {
		return
	}
	for _, address := range welcome.Servers {
		s.learn(address)
	}
}

// connected sends what the server must know again: outcomes that it has not stored, then credit.
func (s *session) connected(c *connection) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.credit = 0
	for token, execution := range s.tasks {
		if execution.missing != nil {
			// It waits for values that come only on the connection that it came on.
			delete(s.tasks, token)
		}
	}
	for _, token := range s.order {
		c.push(&v1.AttachRequest{Message: &v1.AttachRequest_Done{Done: s.unstored[token]}})
	}
	s.conn = c
	if s.draining {
		c.push(&v1.AttachRequest{Message: &v1.AttachRequest_Draining{Draining: &v1.Draining{}}})
	}
	s.grant()
}

func (s *session) disconnected(c *connection) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.conn == c {
		s.conn = nil
	}
}

func (s *session) setShare(share int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.share = share
	s.grant()
}

// grant gives the server the credit that it lacks. The caller has the lock.
func (s *session) grant() {
	more := s.share - s.credit - len(s.tasks)
	if s.conn == nil || s.draining || more <= 0 {
		return
	}
	s.credit += more
	s.conn.push(&v1.AttachRequest{Message: &v1.AttachRequest_Ready{Ready: &v1.Ready{Tasks: uint32(more)}}})
}

func (s *session) drain() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.draining = true
	if s.conn != nil {
		s.conn.push(&v1.AttachRequest{Message: &v1.AttachRequest_Draining{Draining: &v1.Draining{}}})
	}
	s.checkDrained()
}

// checkDrained ends the session if nothing is left to do. The caller has the lock.
func (s *session) checkDrained() {
	if s.draining && len(s.tasks) == 0 && len(s.unstored) == 0 && !s.isDrained() {
		close(s.drained)
	}
}

func (s *session) isDrained() bool {
	select {
	case <-s.drained:
		return true
	default:
		return false
	}
}

func (s *session) receive(ctx context.Context, message *v1.AttachResponse) {
	switch message := message.Message.(type) {
	case *v1.AttachResponse_Welcome:
		s.welcome(message.Welcome)
	case *v1.AttachResponse_Task:
		s.accept(ctx, message.Task)
	case *v1.AttachResponse_Cancel:
		s.cancel(message.Cancel)
	case *v1.AttachResponse_Stored:
		s.settle(message.Stored.GetToken())
	case *v1.AttachResponse_Refused:
		s.settle(message.Refused.GetToken())
	case *v1.AttachResponse_Values:
		s.values(ctx, message.Values)
	}
}

// accept starts a task, or asks for the values that it lacks.
func (s *session) accept(ctx context.Context, task *v1.WorkerTask) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.credit = max(s.credit-1, 0)
	for _, other := range s.tasks {
		if other.isSame(task) && other.cancel != nil {
			// The server takes the earlier try for lost.
			other.cancel(&Cancelled{Reason: CancelTaskReasonFenced})
		}
	}
	e := &execution{task: task, values: make(map[string]JSON, len(task.State))}
	s.tasks[string(task.Token)] = e
	for _, channel := range task.State {
		value, err := s.cache.resolve(channel)
		if err != nil {
			if e.missing == nil {
				e.missing = map[string]bool{}
			}
			e.missing[channel.Channel] = true
			continue
		}
		e.values[channel.Channel] = value
	}
	if e.missing == nil {
		s.start(ctx, e)
		return
	}
	missing := &v1.Missing{Token: task.Token}
	for channel := range e.missing {
		missing.Channels = append(missing.Channels, channel)
	}
	if s.conn != nil {
		s.conn.push(&v1.AttachRequest{Message: &v1.AttachRequest_Missing{Missing: missing}})
	}
}

// isSame reports whether a task is another try of this one.
func (e *execution) isSame(task *v1.WorkerTask) bool {
	return e.task.RunId == task.RunId && e.task.TaskId == task.TaskId && e.task.Kind == task.Kind && e.task.Handler == task.Handler &&
		e.task.GetToolCall().GetId() == task.GetToolCall().GetId()
}

func (s *session) values(ctx context.Context, values *v1.ChannelValues) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	e := s.tasks[string(values.Token)]
	if e == nil || e.missing == nil {
		return
	}
	for _, channel := range values.Values {
		if value, err := s.cache.resolve(channel); err == nil {
			e.values[channel.Channel] = value
			delete(e.missing, channel.Channel)
		}
	}
	if len(e.missing) == 0 {
		e.missing = nil
		s.start(ctx, e)
	}
}

func (s *session) cancel(p *v1.CancelTask) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	e := s.tasks[string(p.Token)]
	switch {
	case e == nil:
	case e.cancel != nil:
		e.cancel(&Cancelled{Reason: p.Reason})
	default:
		delete(s.tasks, string(p.Token))
		s.grant()
		s.checkDrained()
	}
}

// settle forgets an outcome that the server has stored or refused.
func (s *session) settle(token []byte) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if _, known := s.unstored[string(token)]; known {
		delete(s.unstored, string(token))
		for i, other := range s.order {
			if other == string(token) {
				s.order = append(s.order[:i], s.order[i+1:]...)
				break
			}
		}
	}
	s.grant()
	s.checkDrained()
}

// start executes a task. The caller has the lock.
func (s *session) start(parent context.Context, e *execution) {
	ctx, cancel := context.WithCancelCause(parent)
	e.cancel = cancel
	release := func() { cancel(nil) }
	if limit := e.task.GetTimeLimit(); limit != nil {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, limit.AsDuration())
		release = func() { stop(); cancel(nil) }
	}
	go func() {
		defer release()
		done := s.execute(ctx, e)
		done.Token = e.task.Token
		s.finish(done)
	}()
}

func (s *session) execute(ctx context.Context, e *execution) (done *v1.Done) {
	defer func() {
		if fault := recover(); fault != nil {
			done = &v1.Done{Outcome: &v1.Done_Failure{Failure: &v1.WorkerFailure{
				Type: "panic", Message: fmt.Sprint(fault), Details: string(debug.Stack()),
			}}}
		}
	}()
	handler, known := s.worker.handlers[handlerKey{e.task.Kind, e.task.Handler}]
	if !known {
		return &v1.Done{Outcome: &v1.Done_Failure{Failure: &v1.WorkerFailure{
			Type: "HandlerUnknown", Message: fmt.Sprintf("worker %s has no handler %q", s.worker.id, e.task.Handler), Retryable: v1.Retryable_RETRYABLE_NO,
		}}}
	}
	done, err := handler.run(ctx, s.context(ctx, e))
	var question *interrupted
	switch {
	case errors.As(err, &question):
		return &v1.Done{Outcome: &v1.Done_Interrupts{Interrupts: &v1.Interrupts{
			Questions: []*v1.Question{question.question},
		}}}
	case err != nil:
		return &v1.Done{Outcome: &v1.Done_Failure{Failure: failureOf(err)}}
	}
	return done
}

// finish sends an outcome, and holds it until the server has stored it.
func (s *session) finish(done *v1.Done) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	token := string(done.Token)
	delete(s.tasks, token)
	s.unstored[token] = done
	s.order = append(s.order, token)
	if len(s.order) > maxUnstored {
		delete(s.unstored, s.order[0])
		s.order = s.order[1:]
	}
	if s.conn != nil {
		s.conn.push(&v1.AttachRequest{Message: &v1.AttachRequest_Done{Done: done}})
	}
	s.grant()
}

func (s *session) context(ctx context.Context, e *execution) *TaskContext {
	p := e.task
	task := &TaskContext{
		TaskID: p.TaskId, RunID: p.RunId, ThreadID: p.ThreadId, GraphName: p.GraphName, Node: p.Node, Namespace: p.Namespace,
		Step: int(p.Step), RemainingSteps: p.RemainingSteps, Attempt: p.Attempt, Try: p.Try, Config: jsonFrom(p.Config), Context: jsonFrom(p.Context),
		HeartbeatDetails: jsonFrom(p.HeartbeatDetails), TraceContext: p.TraceContext,
		worker: s.worker, token: p.Token, channels: e.values, answers: p.Answers, modes: p.EmitModes, item: p.ItemToken,
	}
	task.send = func(message *v1.AttachRequest) error {
		s.mutex.Lock()
		conn := s.conn
		s.mutex.Unlock()
		// Without a connection the server takes the task for lost: what it emits has no reader.
		if conn != nil {
			conn.pushWhenRoom(ctx, message)
		}
		return context.Cause(ctx)
	}
	switch input := p.Input.(type) {
	case *v1.WorkerTask_SendInput:
		task.input = jsonFrom(input.SendInput)
	case *v1.WorkerTask_ToolCall:
		task.input, task.ToolCallID, task.ToolName = jsonFrom(input.ToolCall.GetArgs()), input.ToolCall.GetId(), input.ToolCall.GetName()
	case *v1.WorkerTask_Reduction:
		task.input, task.writes = jsonFrom(input.Reduction.GetLeft()), itemsFrom(input.Reduction.GetWrites(), jsonFrom)
	}
	return task
}
