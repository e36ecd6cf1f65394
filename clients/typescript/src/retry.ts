/** Which calls to retry, and after which delay. */
import { RunloomError, abortError } from "./errors.js";

/** The number and the delays, in milliseconds, of retries after temporary failures. Delays double, with jitter in their upper half. */
export interface RetryPolicy {
  /** Maximum number of consecutive retries. A stream resets the count with each new part. 0: no retries. Default: 15, more than a minute in all. */
  maxRetries: number;
  /** The first delay. Default: 100. */
  initialDelay: number;
  /** The longest delay, unless the server names a longer one. Default: 8000. */
  maxDelay: number;
}

export const defaultRetry: RetryPolicy = { maxRetries: 15, initialDelay: 100, maxDelay: 8000 };

/** Waits before the next try. Throws the error if there is none. */
export async function waitToRetry(policy: RetryPolicy, failures: number, error: Error, signal?: AbortSignal): Promise<void> {
  if (failures > policy.maxRetries || !(error instanceof RunloomError) || !error.isTransient) throw error;
  await sleep(delayOf(policy, failures, error.retryDelay), signal);
}

/** The delay after so many consecutive failures, in milliseconds. */
export function delayOf(policy: RetryPolicy, failures: number, asked?: number): number {
  const full = Math.min(policy.initialDelay * 2 ** (failures - 1), policy.maxDelay);
  const delay = full * (0.5 + Math.random() / 2);
  // The jitter is added to the server's delay, so that clients still spread.
  return asked === undefined ? delay : Math.max(asked, delay) + policy.initialDelay * Math.random();
}

/** Waits, unless the signal ends it. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(abortError(signal));
    const stop = () => {
      clearTimeout(timer);
      reject(abortError(signal!));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
