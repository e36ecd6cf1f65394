package dev.runloom;

import io.grpc.Channel;
import io.grpc.stub.AbstractStub;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.function.Function;

/** Calls with retries, and pages. */
abstract class Calls {
  abstract Channel channel();

  abstract RetryPolicy retry();

  abstract int maxPartBytes();

  /** Calls an RPC, and repeats it if that is safe. */
  <S extends AbstractStub<S>, R> R call(boolean repeat, Function<Channel, S> stub, Function<S, R> rpc) {
    for (int failures = 1; ; failures++) {
      try {
        return rpc.apply(stub.apply(channel()));
      } catch (io.grpc.StatusRuntimeException error) {
        var known = RunloomException.from(error);
        if (!repeat) throw known;
        retry().await(failures, known);
      }
    }
  }

  record Page<T>(List<T> items, String nextPageToken) {}

  /** The items of all pages, each read when it is needed. */
  <T> Iterable<T> pages(Function<String, Page<T>> read) {
    return () -> new Iterator<>() {
      private Page<T> page = null;
      private Iterator<T> items = List.<T>of().iterator();

      @Override
      public boolean hasNext() {
        while (!items.hasNext() && (page == null || !page.nextPageToken.isEmpty())) {
          page = read.apply(page == null ? "" : page.nextPageToken);
          items = page.items.iterator();
        }
        return items.hasNext();
      }

      @Override
      public T next() {
        if (!hasNext()) throw new NoSuchElementException();
        return items.next();
      }
    };
  }
}
