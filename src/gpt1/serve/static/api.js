// Requests to the server: JSON bodies, JSON or streamed responses; every error is an ApiError.

import { session } from "./store.js";

const ROOT = new URL("../", import.meta.url); // the page may be served under a proxy's path prefix

export class ApiError extends Error {
  /** status 0: no response. `param` is the field with the error, as "input.text_a". */
  constructor(status, { message = "", param = null, code = null } = {}, wait = null) {
    super(message);
    Object.assign(this, { status, param, code, wait });
  }
}

async function send(path, body, signal) {
  const headers = {};
  const key = session.get("key");
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  const options = {
    method: body ? "POST" : "GET",
    headers,
    body: body && JSON.stringify(body),
    signal,
    cache: "no-store",
  };
  const response = await answered(fetch(new URL(path, ROOT), options));
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  const error = new ApiError(response.status, answer.error ?? {}, response.headers.get("Retry-After"));
  if (response.status === 401) dispatchEvent(new CustomEvent("gpt1:unauthorised", { detail: { tried: Boolean(key) } }));
  throw error;
}

/** Convert a connection error to an ApiError; an AbortError is rethrown. */
async function answered(promise) {
  try {
    return await promise;
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError(0, { message: error.message });
  }
}

export async function call(path, body, signal) {
  const response = await send(path, body, signal);
  return answered(response.json());
}

/** Yield the JSON of each server-sent event until [DONE]. */
export async function* stream(path, body, signal) {
  const response = await send(path, { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await answered(reader.read());
    if (done) throw new ApiError(0, { message: "the stream ended early" });
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(500, event.error);
      yield event;
    }
  }
}

/** Allows one running request: a new one aborts the previous one. */
export class Latest {
  #controller = null;

  begin() {
    this.#controller?.abort();
    this.#controller = new AbortController();
    return this.#controller.signal;
  }

  stop() {
    this.#controller?.abort();
  }

  /** Whether `signal` belongs to the latest request. */
  current(signal) {
    return this.#controller?.signal === signal;
  }
}
