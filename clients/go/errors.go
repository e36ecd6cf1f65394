package runloom

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1 "runloom.dev/clients/go/runloom/v1"
)

// Reason says why a call or a run failed. It is an error itself, so that `errors.Is(err, runloom.ReasonThreadNotFound)` holds for an error of that reason.
type Reason string

const reasonPrefix = "ERROR_REASON_"

// Error returns the name.
func (r Reason) Error() string { return string(r) }

func reasonFrom(p v1.ErrorReason) Reason {
	if p == v1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		return ""
	}
	return Reason(strings.TrimPrefix(p.String(), reasonPrefix))
}

// Error is the error of a call, or of a run (End.Error, Run.Error). Use errors.As to read it and errors.Is with a Reason to match it.
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Message says what happened.
	Message string
	// Reason is empty if the error does not come from Runloom: a broken connection, or a proxy.
	Reason Reason
	// Metadata has the details of the reason. Example: `thread_id`.
	Metadata map[string]string
	// Violations are all missing or invalid fields of the request.
	Violations []FieldViolation
	// RetryDelay is the delay that the server names for a retry; 0 if it names none.
	RetryDelay time.Duration

	cause error
}

// FieldViolation is a missing or invalid field of a request.
type FieldViolation struct {
	// Field is its path: `run.config.recursion_limit`.
	Field string
	// Description is the error.
	Description string
}

// Error returns one line with the message, the reason and every invalid field.
func (e *Error) Error() string {
	var out strings.Builder
	name := string(e.Reason)
	if name == "" {
		name = e.Code.String()
	}
	fmt.Fprintf(&out, "%s (%s)", e.Message, name)
	for _, violation := range e.Violations {
		fmt.Fprintf(&out, "; %s: %s", violation.Field, violation.Description)
	}
	return out.String()
}

// Is matches a Reason.
func (e *Error) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && e.Reason == reason && reason != ""
}

// Unwrap returns the error of gRPC, or that of the context if it ended the call.
func (e *Error) Unwrap() error { return e.cause }

// Cursor is the cursor to join again, if the error ended a stream.
func (e *Error) Cursor() string { return e.Metadata["cursor"] }

// OldestCursor is the oldest cursor of the log, for ReasonCursorExpired.
func (e *Error) OldestCursor() string { return e.Metadata["oldest_cursor"] }

// Transient reports whether the failure is temporary: the server named a delay, or the connection broke. The call may have had an effect.
func (e *Error) Transient() bool {
	broken := e.Reason == "" && (e.Code == codes.Unknown || e.Code == codes.Internal || e.Code == codes.Canceled)
	return broken || e.Code == codes.Unavailable || e.RetryDelay > 0
}

// errorFrom converts the error of a run; nil for none.
func errorFrom(p *rpcstatus.Status) *Error {
	if p == nil {
		return nil
	}
	return fromStatus(status.FromProto(p), nil)
}

// wrap converts the error of a call. The error of the context takes precedence, since gRPC reports it in its own words.
func wrap(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
		return &Error{Code: status.FromContextError(ctx.Err()).Code(), Message: err.Error(), cause: err}
	}
	return fromStatus(status.Convert(err), err)
}

func fromStatus(s *status.Status, cause error) *Error {
	e := &Error{Code: s.Code(), Message: s.Message(), cause: cause}
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == "runloom.dev" {
				e.Reason, e.Metadata = Reason(detail.GetReason()), detail.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				e.Violations = append(e.Violations, FieldViolation{violation.GetField(), violation.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.RetryDelay = detail.GetRetryDelay().AsDuration()
		}
	}
	return e
}

func broken(message string) *Error { return &Error{Code: codes.Unavailable, Message: message} }

func (r Reason) proto() v1.ErrorReason {
	return v1.ErrorReason(v1.ErrorReason_value[reasonPrefix+string(r)])
}
