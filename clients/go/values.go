package runloom

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func timeFrom(p *timestamppb.Timestamp) time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.AsTime()
}

func timeTo(value time.Time) *timestamppb.Timestamp {
	if value.IsZero() {
		return nil
	}
	return timestamppb.New(value)
}

func durationFrom(p *durationpb.Duration) time.Duration { return p.AsDuration() }

func durationTo(value time.Duration) *durationpb.Duration {
	if value == 0 {
		return nil
	}
	return durationpb.New(value)
}

func maskTo(paths []string) *fieldmaskpb.FieldMask {
	if len(paths) == 0 {
		return nil
	}
	return &fieldmaskpb.FieldMask{Paths: paths}
}

func listFrom[P, M any](list []*P, convert func(*P) *M) []M {
	if list == nil {
		return nil
	}
	out := make([]M, 0, len(list))
	for _, p := range list {
		out = append(out, *convert(p))
	}
	return out
}

func mapFrom[P, M any](values map[string]*P, convert func(*P) *M) map[string]M {
	if values == nil {
		return nil
	}
	out := make(map[string]M, len(values))
	for key, p := range values {
		out[key] = *convert(p)
	}
	return out
}

func valuesFrom[P, V any](values map[string]*P, convert func(*P) V) map[string]V {
	if values == nil {
		return nil
	}
	out := make(map[string]V, len(values))
	for key, p := range values {
		out[key] = convert(p)
	}
	return out
}

func itemsFrom[P, V any](list []*P, convert func(*P) V) []V {
	if list == nil {
		return nil
	}
	out := make([]V, 0, len(list))
	for _, p := range list {
		out = append(out, convert(p))
	}
	return out
}

func listTo[M, P any](list []M, convert func(*M) *P) []*P {
	if list == nil {
		return nil
	}
	out := make([]*P, 0, len(list))
	for i := range list {
		out = append(out, convert(&list[i]))
	}
	return out
}
