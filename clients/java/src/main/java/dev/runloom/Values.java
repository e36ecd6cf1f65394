package dev.runloom;

import com.google.protobuf.FieldMask;
import com.google.protobuf.Timestamp;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/** Conversions of values that are not messages of Runloom. */
final class Values {
  private Values() {}

  static Instant instant(Timestamp p) {
    return Instant.ofEpochSecond(p.getSeconds(), p.getNanos());
  }

  static Timestamp proto(Instant value) {
    return Timestamp.newBuilder().setSeconds(value.getEpochSecond()).setNanos(value.getNano()).build();
  }

  static Duration duration(com.google.protobuf.Duration p) {
    return Duration.ofSeconds(p.getSeconds(), p.getNanos());
  }

  static com.google.protobuf.Duration proto(Duration value) {
    return com.google.protobuf.Duration.newBuilder().setSeconds(value.getSeconds()).setNanos(value.getNano()).build();
  }

  static FieldMask proto(List<String> paths) {
    return FieldMask.newBuilder().addAllPaths(paths).build();
  }

  static <P, T> List<T> list(List<P> list, Function<P, T> convert) {
    List<T> out = new ArrayList<>(list.size());
    for (P item : list) out.add(convert.apply(item));
    return out;
  }

  static <P, T> Map<String, T> map(Map<String, P> map, Function<P, T> convert) {
    Map<String, T> out = new LinkedHashMap<>();
    map.forEach((key, item) -> out.put(key, convert.apply(item)));
    return out;
  }

  /** Checks that no other field of a oneof is set. */
  static void one(int present, String oneof) {
    if (present != 0) throw new IllegalArgumentException("only one of the fields of `" + oneof + "` can be set");
  }
}
