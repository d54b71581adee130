/** A config that a person names, read and compiled. */
import {
  type CompiledConfiguration,
  compileConfiguration,
} from '../gateway/compile-configuration.ts';
import { configProblems, failed, type Outcome } from './outcome.ts';
import type { CliWorld } from './world.ts';

export type ReadConfig =
  | {
      readonly compiled: CompiledConfiguration;
      /** How people call it. */
      readonly name: string;
      readonly failure?: never;
    }
  | { readonly compiled?: never; readonly name?: never; readonly failure: Outcome };

/** @param file a path, or `-` for standard input */
export function readConfig(file: string, world: CliWorld): ReadConfig {
  const read = world.readFile(file);
  if (read.text === undefined) return { failure: failed(read.reason) };
  const name = file === '-' ? 'standard input' : file;
  // What a core makes of it where the kernel takes the NAT.
  const options = { fileName: name, forwardedTraffic: 'sessions' } as const;
  const { compiled, problems } = compileConfiguration(read.text, options);
  if (compiled === undefined) return { failure: configProblems(problems) };
  return { compiled, name };
}

/** What the config asks for in vain, for people. */
export function notesOn({ notInForce }: CompiledConfiguration): string[] {
  return notInForce.map((note) => `note: ${note}`);
}
