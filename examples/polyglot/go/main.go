// Command approve is the node of the example in Go: it asks a person about a large refund.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	runloom "runloom.dev/clients/go"
)

type state struct {
	Order struct{ Price float64 }
}

func approve(ctx context.Context, task *runloom.TaskContext) (any, error) {
	var s state
	if err := task.Input(&s); err != nil {
		return nil, err
	}
	if err := task.Emit(map[string]any{"status": "Checking the refund policy…", "language": "Go"}); err != nil {
		return nil, err
	}
	select {
	case <-time.After(delay()):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	answer := struct{ Approved bool }{true}
	if s.Order.Price > 50 {
		question := map[string]any{"question": fmt.Sprintf("Refund %v?", s.Order.Price), "answer with": map[string]any{"approved": true}}
		if err := task.Interrupt(question, &answer); err != nil {
			return nil, err
		}
	}
	return map[string]any{"approved": answer.Approved, "log": []string{"approved by Go"}}, nil
}

func delay() time.Duration {
	milliseconds, err := strconv.Atoi(os.Getenv("POLYGLOT_DELAY_MS"))
	if err != nil {
		milliseconds = 300
	}
	return time.Duration(milliseconds) * time.Millisecond
}

func main() {
	worker := runloom.NewWorker(os.Args[1], runloom.WorkerOptions{Queue: "go"})
	worker.AddNode("approve", approve)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := worker.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
