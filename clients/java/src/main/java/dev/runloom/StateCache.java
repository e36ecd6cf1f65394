package dev.runloom;

import dev.runloom.v1.ChannelValue;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Values of channels by version, those used last, so that the server can send what changed. They cannot be changed, since many tasks see them. */
final class StateCache {
  /** A value that was evicted. */
  static final Object MISSING = new Object();

  private static final int MAX_VALUES = 8192;

  private record Cached(Object value, long size) {}

  private final long maxSize;
  private long size;
  private final LinkedHashMap<String, Cached> values = new LinkedHashMap<>(16, 0.75f, true);

  StateCache(long maxSize) {
    this.maxSize = maxSize;
  }

  /** The value of a channel, which is remembered; MISSING if it depends on one that was evicted. */
  Object resolve(ChannelValue p) {
    switch (p.getValueCase()) {
      case WHOLE -> {
        return put(p.getVersion(), frozen(Json.from(p.getWhole())), p.getWhole().getSerializedSize());
      }
      case UNCHANGED -> {
        var known = values.get(p.getVersion());
        return known == null ? MISSING : known.value;
      }
      case APPENDED -> {
        var base = values.get(p.getAppended().getBase());
        long keep = p.getAppended().getKeep();
        if (base == null || !(base.value instanceof List<?> before) || keep > before.size()) return MISSING;
        if (!(frozen(Json.from(p.getAppended().getItems())) instanceof List<?> added)) return MISSING;
        var items = new ArrayList<Object>(before.subList(0, (int) keep));
        items.addAll(added);
        return put(p.getVersion(), Collections.unmodifiableList(items), base.size + p.getAppended().getItems().getSerializedSize());
      }
      default -> {
        return null;
      }
    }
  }

  private Object put(String version, Object value, long bytes) {
    if (version.isEmpty() || bytes > maxSize) return value;
    var before = values.put(version, new Cached(value, bytes));
    size += bytes - (before == null ? 0 : before.size);
    var oldest = values.values().iterator();
    while (size > maxSize || values.size() > MAX_VALUES) {
      size -= oldest.next().size;
      oldest.remove();
    }
    return value;
  }

  static Object frozen(Object value) {
    if (value instanceof List<?> list) {
      List<Object> out = new ArrayList<>(list.size());
      for (Object item : list) out.add(frozen(item));
      return Collections.unmodifiableList(out);
    }
    if (value instanceof Map<?, ?> map) {
      Map<Object, Object> out = new LinkedHashMap<>();
      map.forEach((key, item) -> out.put(key, frozen(item)));
      return Collections.unmodifiableMap(out);
    }
    return value;
  }
}
