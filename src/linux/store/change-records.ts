/** What is kept of changes of the config: the one under way, and the revisions before. */
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import type { Change, PendingChange } from '../../gateway/change/change-machine.ts';
import { diffLines } from '../../gateway/change/line-diff.ts';
import { type Codec, type Log, plainCodec, type Store } from './store.ts';

/** A year of weekly changes and more; older ones are dropped. */
export const REVISIONS_MAX = 200;

export interface Revision {
  readonly author: string;
  /** Milliseconds since 1970 by the wall clock, for people only: it may have been wrong. */
  readonly recordedAt: number;
  readonly configText: string;
  readonly rulesetText: string;
  /** Of the config against the revision before it, in unified form. */
  readonly configDiff: string;
}

export interface ChangeRecords {
  readonly revisions: Pick<Log<Revision>, 'get' | 'list'>;
  /** For `ChangeMachine.start`. */
  pending(): PendingChange | undefined;
  /** `store-pending` @throws StorageError */
  storePending(pending: PendingChange): void;
  /** `store-confirmed` @returns the revision's number @throws StorageError */
  storeConfirmed(change: Change, recordedAt: number): number;
  /** `clear-pending` @throws StorageError */
  clearPending(): void;
  /** A configuration that no change led to, for example the first one. @returns its number */
  recordRevision(revision: Omit<Revision, 'configDiff'>): number;
}

/** There is one change at a time. */
const KEY = 'current';

export function openChangeRecords(store: Store): ChangeRecords {
  const pendingChange = store.collection<PendingChange>({
    name: 'pending-change',
    codec: plainCodec(),
    recordsMax: 1,
  });
  const revisions = store.log<Revision>({
    name: 'revisions',
    codec: revisionCodec,
    recordsMax: REVISIONS_MAX,
  });
  const recordRevision = (revision: Omit<Revision, 'configDiff'>) =>
    store.transaction(() => {
      const before = revisions.list({ limit: 1 })[0]?.[1].configText ?? '';
      const configDiff = diffLines({ before, after: revision.configText });
      return revisions.append({ ...revision, configDiff });
    });
  return {
    revisions,
    pending: () => pendingChange.get(KEY),
    storePending: (pending) => pendingChange.put(KEY, pending),
    storeConfirmed: (change, recordedAt) =>
      store.transaction(() => {
        pendingChange.put(KEY, { phase: 'confirmed', change });
        return recordRevision({ author: change.author, recordedAt, ...change.next });
      }),
    clearPending: () => {
      pendingChange.delete(KEY);
    },
    recordRevision,
  };
}

/** A printed ruleset may have megabytes and shrinks to a tenth or less. */
const revisionCodec: Codec<Revision> = {
  encode: ({ rulesetText, ...rest }) => ({
    ...rest,
    rulesetZstd: zstdCompressSync(rulesetText).toString('base64'),
  }),
  decode: (json) => {
    const { rulesetZstd, ...rest } = json as Omit<Revision, 'rulesetText'> & {
      rulesetZstd: string;
    };
    const rulesetText = zstdDecompressSync(Buffer.from(rulesetZstd, 'base64')).toString('utf8');
    return { ...rest, rulesetText };
  },
};
