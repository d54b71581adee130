/**
 * Waits in Node's event loop until a file descriptor of ours can be read, by libuv's `uv_poll`: no
 * thread of its own, and no processor time while nothing comes.
 */
import { isMainThread } from 'node:worker_threads';
import { errnoName, eventLoop, openNativeLibrary } from './ffi.ts';

export interface ReadablePoll {
  /** Nothing is called until {@link resume}; what comes meanwhile waits in the kernel. */
  pause(): void;
  resume(): void;
  /** For good. Safe to call again. */
  stop(): void;
}

const { functions: uv, library: uvLibrary } = openNativeLibrary(null, {
  uv_handle_size: { arguments: ['i32'], return: 'u64' },
  uv_poll_init: { arguments: ['pointer', 'buffer', 'i32'], return: 'i32' },
  uv_poll_start: { arguments: ['buffer', 'i32', 'pointer'], return: 'i32' },
  uv_poll_stop: { arguments: ['buffer'], return: 'i32' },
  uv_close: { arguments: ['buffer', 'pointer'], return: 'void' },
});

const UV_POLL = 8;
const UV_READABLE = 1;

/** Handles that libuv may still look at: not to be collected before their close callback. */
const openHandles = new Set<Uint8Array<ArrayBuffer>>();

/**
 * Calls `onReadable` in its own turn of the event loop whenever the descriptor is readable, or has
 * an error that reading tells. On the main thread only: a worker that is terminated could not take
 * its watcher along.
 *
 * @param fd open for as long as the poll is not stopped
 */
export function pollReadable(fd: number, onReadable: () => void): ReadablePoll {
  if (!isMainThread) throw new Error('files wake the main thread only');
  const handle = new Uint8Array(Number(uv.uv_handle_size(UV_POLL)));
  requireSuccess('uv_poll_init', uv.uv_poll_init(eventLoop(), handle, fd));
  openHandles.add(handle);
  let scheduled: NodeJS.Immediate | undefined;
  // libuv calls outside of Node's scope for callbacks, where exceptions abort and promises wait.
  const callback = uvLibrary.registerCallback(
    { arguments: ['pointer', 'i32', 'i32'], return: 'void' },
    () => {
      scheduled ??= setImmediate(() => {
        scheduled = undefined;
        onReadable();
      });
    },
  );
  const start = () => {
    requireSuccess('uv_poll_start', uv.uv_poll_start(handle, UV_READABLE, callback));
  };
  const pause = () => {
    clearImmediate(scheduled);
    scheduled = undefined;
    uv.uv_poll_stop(handle);
  };
  start();
  let stopped = false;
  return {
    pause: () => {
      if (!stopped) pause();
    },
    resume: () => {
      if (!stopped) start();
    },
    stop: () => {
      if (stopped) return;
      stopped = true;
      pause();
      const closed = uvLibrary.registerCallback({ arguments: ['pointer'], return: 'void' }, () => {
        openHandles.delete(handle);
        setImmediate(() => {
          uvLibrary.unregisterCallback(callback);
          uvLibrary.unregisterCallback(closed);
        });
      });
      uv.uv_close(handle, closed);
    },
  };
}

function requireSuccess(action: string, result: number): void {
  if (result < 0) throw new Error(`cannot ${action}: ${errnoName(-result)}`);
}
