package runloom

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "runloom.dev/clients/go/runloom/v1"
)

// TaskContext is a task as its handler sees it. It is safe for concurrent use, except Interrupt.
type TaskContext struct {
	// TaskID is the same in all tries and attempts: an idempotency key for calls to other services.
	TaskID string
	// RunID, ThreadID and GraphName say what the task belongs to.
	RunID, ThreadID, GraphName string
	// Node is its node, and Namespace its subgraph.
	Node      string
	Namespace []string
	// Step is the step of the graph, and RemainingSteps the number of steps before the recursion limit.
	Step           int
	RemainingSteps uint32
	// Attempt is the attempt of the run, and Try the try of the task over all attempts, both from 1.
	Attempt, Try uint32
	// Config is the run's configuration: an object with `configurable`, `tags`, `metadata`, `recursion_limit`. Context is the run's context.
	Config, Context JSON
	// HeartbeatDetails are those of the last heartbeat of the previous try; nil if there are none.
	HeartbeatDetails JSON
	// ToolCallID and ToolName are set for a tool.
	ToolCallID, ToolName string
	// TraceContext has the headers of W3C Trace Context.
	TraceContext map[string]string

	worker   *Worker
	send     func(*v1.AttachRequest) error
	token    []byte
	input    JSON
	channels map[string]JSON
	writes   []JSON
	answers  []*v1.Json
	modes    []v1.StreamMode
	item     string

	mutex     sync.Mutex
	questions int
}

// Input decodes the input of the task: the state of a node, the input of a node started by a Goto, the arguments of a tool.
func (t *TaskContext) Input(into any) error { return t.JSON().Decode(into) }

// JSON is the input of the task.
func (t *TaskContext) JSON() JSON {
	if t.input != nil {
		return t.input
	}
	names := make([]string, 0, len(t.channels))
	for name := range t.channels {
		names = append(names, name)
	}
	slices.Sort(names)
	var out bytes.Buffer
	out.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			out.WriteByte(',')
		}
		key, _ := json.Marshal(name)
		out.Write(key)
		out.WriteByte(':')
		out.Write(t.channels[name])
	}
	out.WriteByte('}')
	return out.Bytes()
}

// Channel is the value of one channel of the state; nil if it has none.
func (t *TaskContext) Channel(name string) JSON { return t.channels[name] }

// Store is a client whose item store has the rights of the task.
func (t *TaskContext) Store() *Client { return t.worker.storeClient(t.item) }

// Interrupt asks a question. If it was answered, the answer is decoded into a variable. Otherwise it returns an error that the handler must return: the task
// ends, and is executed again from its start when there is an answer. Questions are told apart by their order, which must not change between executions.
func (t *TaskContext) Interrupt(question any, answer any) error {
	return t.InterruptSchema(question, nil, answer)
}

// InterruptSchema is Interrupt with the JSON Schema of the answer: the server refuses answers that do not match it.
func (t *TaskContext) InterruptSchema(question any, schema any, answer any) error {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	index := t.questions
	t.questions++
	if index < len(t.answers) && t.answers[index].GetEncoding() != nil {
		if answer == nil {
			return nil
		}
		return jsonFrom(t.answers[index]).Decode(answer)
	}
	if question == nil {
		question = JSON("null")
	}
	var e encoder
	p := &v1.Question{Index: uint32(index), Value: e.json("question", question), ResponseSchema: e.json("schema", schema)}
	if e.err != nil {
		return e.err
	}
	return &interrupted{question: p}
}

type interrupted struct{ question *v1.Question }

func (i *interrupted) Error() string {
	return "the task waits for the answer to: " + i.question.GetValue().GetJson()
}

// wants reports whether somebody reads one of these modes.
func (t *TaskContext) wants(modes ...v1.StreamMode) bool {
	return len(t.modes) == 0 || slices.ContainsFunc(modes, func(mode v1.StreamMode) bool { return slices.Contains(t.modes, mode) })
}

// Emit sends custom data to the readers of the run: mode custom. It waits while the connection is full.
func (t *TaskContext) Emit(data any) error {
	if !t.wants(v1.StreamMode_STREAM_MODE_CUSTOM, v1.StreamMode_STREAM_MODE_EVENTS) {
		return nil
	}
	var e encoder
	p := e.json("emit", data)
	if e.err != nil {
		return e.err
	}
	return t.emit(&v1.Emit{Part: &v1.Emit_Custom{Custom: p}})
}

// EmitChunk sends a piece of a message: mode messages.
func (t *TaskContext) EmitChunk(chunk EmittedChunk) error {
	if !t.wants(v1.StreamMode_STREAM_MODE_MESSAGES, v1.StreamMode_STREAM_MODE_EVENTS) {
		return nil
	}
	var e encoder
	p := chunk.proto(&e)
	if e.err != nil {
		return e.err
	}
	return t.emit(&v1.Emit{Part: &v1.Emit_Chunk{Chunk: p}})
}

// EmitEvent sends something that starts, streams or ends inside the task: mode events.
func (t *TaskContext) EmitEvent(event EmittedEvent) error {
	if !t.wants(v1.StreamMode_STREAM_MODE_EVENTS) {
		return nil
	}
	var e encoder
	p := event.proto(&e)
	if e.err != nil {
		return e.err
	}
	return t.emit(&v1.Emit{Part: &v1.Emit_Event{Event: p}})
}

// EmitPart sends a part of the stream of a graph that runs inside the task.
func (t *TaskContext) EmitPart(part EmittedPart) error {
	var e encoder
	p := part.proto(&e)
	if e.err != nil {
		return e.err
	}
	return t.emit(&v1.Emit{Part: &v1.Emit_Nested{Nested: p}})
}

func (t *TaskContext) emit(p *v1.Emit) error {
	p.Token = t.token
	return t.send(&v1.AttachRequest{Message: &v1.AttachRequest_Emit{Emit: p}})
}

// Heartbeat says that the task is alive. The next try is given the details, unless they are nil.
func (t *TaskContext) Heartbeat(details any) error {
	var e encoder
	p := e.json("details", details)
	if e.err != nil {
		return e.err
	}
	return t.send(&v1.AttachRequest{Message: &v1.AttachRequest_Heartbeat{Heartbeat: &v1.Heartbeat{Token: t.token, Details: p}}})
}

// MessageWriter streams a message of a model, piece by piece.
type MessageWriter struct {
	// ID is the id of the message.
	ID string

	task    *TaskContext
	model   string
	started bool
}

// Message starts a message of a model; the pieces are sent by its methods.
func (t *TaskContext) Message(model string) *MessageWriter {
	return &MessageWriter{ID: newID(), task: t, model: model}
}

// Text sends new text.
func (m *MessageWriter) Text(text string) error {
	return m.Write(MessageChunk{Content: []ContentBlock{{Text: text}}})
}

// End ends the message. The usage can be nil.
func (m *MessageWriter) End(usage *Usage) error {
	return m.Write(MessageChunk{Usage: usage, Last: true})
}

// Write sends a piece. The message's id, role and model are filled in.
func (m *MessageWriter) Write(chunk MessageChunk) error {
	chunk.MessageID = m.ID
	if !m.started {
		m.started, chunk.Role, chunk.Model = true, MessageRoleAi, m.model
	}
	return m.task.EmitChunk(EmittedChunk{Chunk: &chunk})
}

// Failure is an error of a handler with a class. Other errors are failures of their Go type, retried as the node's policy says.
type Failure struct {
	// Type is the class, by which retry rules match. Example: `TimeoutError`.
	Type string
	// Message says what happened.
	Message string
	// Details are for the server's log and the trace.
	Details string
	// Retryable says whether to try again.
	Retryable Retryable
	// RetryDelay is the delay of the next try. 0: that of the policy.
	RetryDelay time.Duration
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }

// Cancelled is the cause of the context of a task that is no longer wanted: context.Cause(ctx).
type Cancelled struct{ Reason CancelTaskReason }

// Error says why.
func (c *Cancelled) Error() string { return "the task was cancelled: " + c.Reason.String() }

// Is matches context.Canceled.
func (c *Cancelled) Is(target error) bool { return target == context.Canceled }

func failureOf(err error) *v1.WorkerFailure {
	var failure *Failure
	if errors.As(err, &failure) {
		return &v1.WorkerFailure{
			Type: failure.Type, Message: failure.Message, Details: failure.Details, Retryable: failure.Retryable,
			RetryDelay: durationTo(failure.RetryDelay),
		}
	}
	return &v1.WorkerFailure{Type: errorType(err), Message: err.Error()}
}

// errorType is the name of the innermost type that is not made by fmt or errors.
func errorType(err error) string {
	name := "Error"
	for ; err != nil; err = errors.Unwrap(err) {
		switch text := fmt.Sprintf("%T", err); text {
		case "*errors.errorString", "*fmt.wrapError", "*fmt.wrapErrors", "*errors.joinError":
		default:
			name = text[lastDot(text)+1:]
		}
	}
	return name
}

func lastDot(text string) int {
	for i := len(text) - 1; i >= 0; i-- {
		if text[i] == '.' {
			return i
		}
	}
	return -1
}
