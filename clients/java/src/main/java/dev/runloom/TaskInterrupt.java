package dev.runloom;

/** Thrown by {@link TaskContext#interrupt} while there is no answer. Let it pass: the task ends, and is executed again when there is one. */
public final class TaskInterrupt extends RuntimeException {
  private static final long serialVersionUID = 1;

  final transient int index;
  final transient Object question;
  final transient Object responseSchema;

  TaskInterrupt(int index, Object question, Object responseSchema) {
    super("the task waits for the answer to: " + Json.encode(question), null, false, false);
    this.index = index;
    this.question = question;
    this.responseSchema = responseSchema;
  }
}
