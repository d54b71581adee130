/**
 * Compiles configs, large ones in a thread of its own: ten thousand rules take seconds, and the
 * core has other work. There, time and memory are bounded.
 */
import { Worker } from 'node:worker_threads';
import {
  type CompileOptions,
  type CompileResult,
  compileConfiguration,
} from '../../gateway/compile-configuration.ts';

/** The largest config takes some seconds on slow machines. */
const COMPILE_WITHIN_MS = 60_000;
/** The largest config takes a third of it. */
const MEMORY_MB_MAX = 1_024;

/** A text of this length takes less time than starting a thread. */
const INLINE_LENGTH_MAX = 32 * 1024;

/** Never rejects: a thread that dies or takes too long is a problem of the config. */
export async function compileBounded(
  configText: string,
  options: CompileOptions,
): Promise<CompileResult> {
  if (configText.length <= INLINE_LENGTH_MAX) return compileConfiguration(configText, options);
  return compileInWorker(configText, options);
}

async function compileInWorker(
  configText: string,
  options: CompileOptions,
): Promise<CompileResult> {
  const problem = (why: unknown): CompileResult => {
    const words = why instanceof Error ? why.message : String(why);
    return { problems: `${options.fileName}: cannot be compiled: ${words}` };
  };
  const { promise, resolve } = Promise.withResolvers<CompileResult>();
  let worker: Worker;
  try {
    worker = new Worker(new URL('./configuration-compiler-worker.ts', import.meta.url), {
      workerData: { configText, options },
      resourceLimits: { maxOldGenerationSizeMb: MEMORY_MB_MAX },
    });
  } catch (cause) {
    return problem(cause);
  }
  worker.on('message', resolve);
  worker.on('error', (error) => resolve(problem(error)));
  worker.on('exit', () => resolve(problem('its thread ended')));
  const timer = setTimeout(
    () => resolve(problem(`it took longer than ${COMPILE_WITHIN_MS} ms`)),
    COMPILE_WITHIN_MS,
  );
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}
