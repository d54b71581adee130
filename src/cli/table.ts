/** `gatehouse table`: what is in the address tables, and changes of it. */
import type { TableEntry } from '../messages/control-messages.ts';
import type { CommandOf, Instance } from './arguments.ts';
import { askCore, authorOf } from './ask-core.ts';
import { done, type Outcome } from './outcome.ts';
import { alignColumns } from './terminal-text.ts';
import type { CliWorld } from './world.ts';

export async function table(command: CommandOf<'table'>, world: CliWorld): Promise<Outcome> {
  if (command.action !== 'show') return change(command, world);
  return command.table === undefined
    ? list(command, world)
    : show({ ...command, table: command.table }, world);
}

async function list(instance: Instance, world: CliWorld): Promise<Outcome> {
  const asked = await askCore(world, {
    instance,
    question: { kind: 'get-tables' },
    expects: 'tables',
  });
  if (asked.answer === undefined) return asked.failure;
  const { tables } = asked.answer;
  const rows = tables.map(({ name, configuredCount, addedCount }) => [
    name,
    `${configuredCount}`,
    `${addedCount}`,
  ]);
  const lines =
    rows.length === 0 ? ['no table'] : alignColumns([['table', 'by config', 'added'], ...rows]);
  return done(lines, { tables });
}

async function show(
  { table: name, ...instance }: Instance & { readonly table: string },
  world: CliWorld,
): Promise<Outcome> {
  const asked = await askCore(world, {
    instance,
    question: { kind: 'get-table', table: name },
    expects: 'table',
  });
  if (asked.answer === undefined) return asked.failure;
  const { entries } = asked.answer;
  const rows = entries.map((entry) => [entry.prefix, originOf(entry)]);
  return done(rows.length === 0 ? ['nothing'] : alignColumns(rows), { table: name, entries });
}

function originOf({ origin, expiresInMs }: TableEntry): string {
  if (origin === 'config') return 'by config';
  return expiresInMs === undefined ? 'added' : `added, for another ${inWords(expiresInMs)}`;
}

async function change(
  command: Extract<CommandOf<'table'>, { readonly action: 'add' | 'remove' }>,
  world: CliWorld,
): Promise<Outcome> {
  const { action, table: name, prefix } = command;
  const entry = { table: name, prefix, author: authorOf(world) };
  const forMs = action === 'add' && command.forMs !== undefined ? { forMs: command.forMs } : {};
  const asked = await askCore(world, {
    instance: command,
    question:
      action === 'add'
        ? { kind: 'add-table-entry', ...entry, ...forMs }
        : { kind: 'remove-table-entry', ...entry },
    expects: 'table-entry',
  });
  if (asked.answer === undefined) return asked.failure;
  const { kind: _kind, id: _id, ...answer } = asked.answer;
  const { outcome, expiresInMs, coveredBy, isKept } = answer;
  const time = expiresInMs === undefined ? '' : ` for ${inWords(expiresInMs)}`;
  const what = {
    added: `${answer.prefix} is in ${name} now${time}`,
    renewed: `${answer.prefix} stays in ${name}${time === '' ? ' without an end' : time}`,
    removed: `${answer.prefix} is no entry of ${name} any more`,
  }[outcome];
  const still = outcome === 'removed' ? 'still in the table by' : 'in the table anyway by';
  const complaints = [
    ...(coveredBy === undefined ? [] : [`gatehouse: it is ${still} ${coveredBy}`]),
    ...(isKept ? [] : ['gatehouse: the disk does not take it: a restart forgets it']),
  ];
  return done([what], answer, { complaints });
}

const units = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'm'],
  [1_000, 's'],
] as const;

/** The largest unit that has at least two, rounded: `90m`, `3h`. */
function inWords(durationMs: number): string {
  const [sizeMs, name] = units.find(([size]) => durationMs >= 2 * size) ?? [1_000, 's'];
  return `${Math.max(1, Math.round(durationMs / sizeMs))}${name}`;
}
