/** The thread of {@link compileBounded}. */
import { parentPort, workerData } from 'node:worker_threads';
import { compileConfiguration } from '../../gateway/compile-configuration.ts';

const { configText, fileName } = workerData as { configText: string; fileName: string };
parentPort?.postMessage(compileConfiguration(configText, { fileName }));
