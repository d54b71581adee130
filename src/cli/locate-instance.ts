/** Where the running instance is found, whatever state its config file is in. */
import { findPaths } from '../config/find-paths.ts';
import type { Instance } from './arguments.ts';
import type { CliWorld } from './world.ts';

export interface InstancePlace {
  readonly state: string;
  readonly runtime: string;
  /** Why these may be the wrong folders, for the message when nobody is there. */
  readonly doubt?: string;
}

export function locateInstance(instance: Instance, world: CliWorld): InstancePlace {
  const file = world.readFile(instance.config);
  const found = findPaths(file.text ?? '');
  const { state } = found;
  const runtime = instance.runtime ?? found.runtime;
  if (file.text !== undefined || instance.runtime !== undefined) return { state, runtime };
  return { state, runtime, doubt: `the usual folder, since ${file.reason}` };
}
