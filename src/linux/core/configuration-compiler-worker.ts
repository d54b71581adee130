/** The thread of {@link compileBounded}. */
import { parentPort, workerData } from 'node:worker_threads';
import { type CompileOptions, compileConfiguration } from '../../gateway/compile-configuration.ts';

const { configText, options } = workerData as { configText: string; options: CompileOptions };
parentPort?.postMessage(compileConfiguration(configText, options));
