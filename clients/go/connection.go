package runloom

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	v1 "runloom.dev/clients/go/runloom/v1"
)

// maxQueued is how many messages may wait to be sent before a handler that emits has to wait.
const maxQueued = 256

// connection sends the messages of a worker to the server, in order. Only emits wait for room: what the worker answers to a message of the server must not
// keep it from reading the next one.
type connection struct {
	mutex  sync.Mutex
	queue  []*v1.AttachRequest
	isOver bool
	// Has a token if there is something to send.
	wake chan struct{}
	// Closed and replaced when there is room.
	room chan struct{}
}

func newConnection() *connection {
	return &connection{wake: make(chan struct{}, 1), room: make(chan struct{})}
}

func (c *connection) push(message *v1.AttachRequest) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.add(message)
}

// add adds a message; nil ends the connection. The caller has the lock.
func (c *connection) add(message *v1.AttachRequest) {
	if c.isOver {
		return
	}
	c.queue = append(c.queue, message)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// pushWhenRoom waits while too much is to be sent, unless the context ends.
func (c *connection) pushWhenRoom(ctx context.Context, message *v1.AttachRequest) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for len(c.queue) >= maxQueued && !c.isOver {
		room := c.room
		c.mutex.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			c.mutex.Lock()
			return
		}
		c.mutex.Lock()
	}
	c.add(message)
}

// close ends the worker's side after what is in the queue.
func (c *connection) close() { c.push(nil) }

// run sends until the context ends or the connection breaks; the reader of the connection then sees why.
func (c *connection) run(ctx context.Context, stream grpc.BidiStreamingClient[v1.AttachRequest, v1.AttachResponse]) {
	defer c.end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		for _, message := range c.take() {
			if message == nil {
				_ = stream.CloseSend()
				return
			}
			if stream.Send(message) != nil {
				return
			}
		}
	}
}

func (c *connection) take() []*v1.AttachRequest {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	queue := c.queue
	c.queue = nil
	close(c.room)
	c.room = make(chan struct{})
	return queue
}

func (c *connection) end() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.isOver, c.queue = true, nil
	close(c.room)
	c.room = make(chan struct{})
}

// beat says that the worker is alive, at an interval.
func (c *connection) beat(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.push(&v1.AttachRequest{Message: &v1.AttachRequest_Heartbeat{Heartbeat: &v1.Heartbeat{}}})
		}
	}
}
