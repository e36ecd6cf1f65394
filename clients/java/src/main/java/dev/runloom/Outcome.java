package dev.runloom;

import dev.runloom.v1.Done;
import dev.runloom.v1.HandlerKind;
import dev.runloom.v1.Interrupts;
import dev.runloom.v1.Question;
import dev.runloom.v1.WorkerFailure;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.List;

/** What a handler returned or threw, as the server is told. */
final class Outcome {
  private static final int MAX_DETAILS = 32_000;

  private Outcome() {}

  static Done.Builder returned(HandlerKind kind, Object result) {
    return switch (kind) {
      case HANDLER_KIND_NODE -> Done.newBuilder().setUpdate(update(result));
      case HANDLER_KIND_TOOL -> Done.newBuilder().setToolResult(toolResult(result));
      case HANDLER_KIND_ROUTE -> Done.newBuilder().setRoute(route(result));
      default -> Done.newBuilder().setValue(Json.to("value", result));
    };
  }

  private static dev.runloom.v1.NodeUpdate update(Object result) {
    if (result instanceof NodeUpdate update) return update.toProto();
    var p = dev.runloom.v1.NodeUpdate.newBuilder();
    if (result != null) p.setUpdate(Json.to("update", result));
    return p.build();
  }

  private static dev.runloom.v1.ToolResult toolResult(Object result) {
    if (result instanceof ToolResult tool) return tool.toProto();
    if (result instanceof NodeUpdate command) return dev.runloom.v1.ToolResult.newBuilder().setCommand(command.toProto()).build();
    return dev.runloom.v1.ToolResult.newBuilder().setContent(Json.to("content", result)).build();
  }

  private static dev.runloom.v1.Route route(Object result) {
    var p = dev.runloom.v1.Route.newBuilder();
    for (Object next : result instanceof List<?> list ? list : List.of(result)) {
      p.addGoto(next instanceof Goto to ? to.toProto() : dev.runloom.v1.Goto.newBuilder().setNode((String) next).build());
    }
    return p.build();
  }

  static Done.Builder thrown(Throwable error) {
    if (error instanceof TaskInterrupt asked) {
      var question = Question.newBuilder().setIndex(asked.index).setValue(Json.to("question", asked.question));
      if (asked.responseSchema != null) question.setResponseSchema(Json.to("responseSchema", asked.responseSchema));
      return Done.newBuilder().setInterrupts(Interrupts.newBuilder().addQuestions(question));
    }
    var trace = new StringWriter();
    error.printStackTrace(new PrintWriter(trace));
    String details = trace.toString();
    if (details.length() > MAX_DETAILS) details = details.substring(0, MAX_DETAILS);
    var p = error instanceof Failure failure ? failure.toProto().toBuilder()
        : WorkerFailure.newBuilder().setType(error.getClass().getSimpleName()).setMessage(String.valueOf(error.getMessage()));
    return Done.newBuilder().setFailure(p.setDetails(details));
  }

  static Done.Builder unknown(String handler) {
    return Done.newBuilder().setFailure(WorkerFailure.newBuilder().setType("HandlerUnknown").setMessage("the worker has no handler \"" + handler + "\"")
        .setRetryable(dev.runloom.v1.Retryable.RETRYABLE_NO));
  }
}
