package dev.runloom;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.ToNumberPolicy;

/**
 * JSON as Java's own values: null, Boolean, String, Long, Double, List and Map with keys in their order. Fields of requests take these, and everything else that
 * Gson encodes, such as records.
 */
public final class Json {
  /** JSON's null, for a field of a request, where Java's null is an absent value. */
  public static final Object NULL = com.google.gson.JsonNull.INSTANCE;

  private static final Gson GSON =
      new GsonBuilder().serializeNulls().disableHtmlEscaping().setObjectToNumberStrategy(ToNumberPolicy.LONG_OR_DOUBLE).create();

  private Json() {}

  /** Converts a value, of a response for example, to a class of yours. */
  public static <T> T decode(Object value, Class<T> type) {
    return GSON.fromJson(GSON.toJsonTree(value), type);
  }

  /** The value as JSON text. */
  public static String encode(Object value) {
    return GSON.toJson(value);
  }

  /** Parses JSON text. */
  public static Object parse(String text) {
    return GSON.fromJson(text, Object.class);
  }

  static Object from(dev.runloom.v1.Json p) {
    return switch (p.getEncodingCase()) {
      case JSON -> parse(p.getJson());
      // Only if a server ignores the encoding that was requested.
      case VALUE -> from(p.getValue());
      default -> null;
    };
  }

  private static Object from(com.google.protobuf.Value p) {
    return switch (p.getKindCase()) {
      case BOOL_VALUE -> p.getBoolValue();
      case NUMBER_VALUE -> p.getNumberValue();
      case STRING_VALUE -> p.getStringValue();
      case LIST_VALUE -> p.getListValue().getValuesList().stream().map(Json::from).toList();
      case STRUCT_VALUE -> Values.map(p.getStructValue().getFieldsMap(), Json::from);
      default -> null;
    };
  }

  static dev.runloom.v1.Json to(String field, Object value) {
    try {
      return dev.runloom.v1.Json.newBuilder().setJson(encode(value)).build();
    } catch (RuntimeException error) {
      throw new IllegalArgumentException("field " + field + ": the value cannot be encoded as JSON: " + error.getMessage(), error);
    }
  }
}
