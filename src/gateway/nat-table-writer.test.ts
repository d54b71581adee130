import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  NatClass,
  NatLimits,
  NatMapping,
  NatMappingBucket,
  NatMappingFlags,
  NatSession,
  NatSessionBucket,
  NatSessionFlags,
  NatSessionVersion,
  type NatSettings,
} from '../abi/layouts.generated.ts';
import { requireIpv4Address } from '../net/ipv4-address.ts';
import { type Forward, forwardsOf, NatTableWriter } from './nat-table-writer.ts';

const ip = requireIpv4Address;
const NOW = 1_000;
const PORTS = 65_536;
const { live, static: fixed, busy } = NatMappingFlags;
const { lowTranslated, highTranslated, entry } = NatSessionFlags;
const laptop = ip('10.77.0.20');
const phone = ip('10.77.0.21');
const remote = ip('203.0.113.80');

const network = { mask: ip('255.255.255.0'), gateway: 0, filtering: 0 };
const settings = {
  externals: [],
  networkCount: 2,
  networks: [
    { ...network, prefix: ip('10.77.0.0'), translate: 1 },
    { ...network, prefix: ip('10.78.0.0'), translate: 0 },
  ],
} as unknown as NatSettings;

class Tables {
  readonly mappings = new ArrayBuffer(2 * 3 * PORTS * NatMapping.sizeBytes);
  readonly mappingBuckets: ArrayBuffer;
  readonly sessions = new ArrayBuffer(64 * NatSessionBucket.sizeBytes);
  readonly writer: NatTableWriter;

  constructor(mappingBuckets = 1_024) {
    this.mappingBuckets = new ArrayBuffer(mappingBuckets * NatMappingBucket.sizeBytes);
    this.writer = new NatTableWriter(this, [1n, 2n]);
  }

  mapping(element: number): NatMapping {
    return NatMapping.decode(new DataView(this.mappings), element * NatMapping.sizeBytes);
  }

  /** As the programs make it. */
  putMapping(element: number, mapping: Partial<NatMapping>): void {
    const whole = {
      ...NatMapping.decode(new DataView(new ArrayBuffer(NatMapping.sizeBytes)), 0),
      ...{ internalAddress: phone, internalPort: 7, flags: live, untilTick: NOW + 1 },
      ...mapping,
    };
    NatMapping.encode(whole, new DataView(this.mappings), element * NatMapping.sizeBytes);
  }

  /** Elements that references name, in all buckets. */
  references(): number[] {
    const view = new DataView(this.mappingBuckets);
    const count = this.mappingBuckets.byteLength / NatMappingBucket.sizeBytes;
    const buckets = Array.from({ length: count }, (_, index) =>
      NatMappingBucket.decode(view, index * NatMappingBucket.sizeBytes),
    );
    return buckets.flatMap(({ references }) => references.filter((one) => one !== 0));
  }

  #at(slot: number): number {
    const { slotsPerBucket } = NatLimits;
    const bucket = Math.floor(slot / slotsPerBucket) * NatSessionBucket.sizeBytes;
    const { offsetBytes } = NatSessionBucket.fields.slots;
    return bucket + offsetBytes + (slot % slotsPerBucket) * NatSession.sizeBytes;
  }

  putSession(slot: number, session: Partial<NatSession>): void {
    const view = new DataView(this.sessions);
    const { slotsPerBucket } = NatLimits;
    const bucket = Math.floor(slot / slotsPerBucket) * NatSessionBucket.sizeBytes;
    const { offsetBytes } = NatSessionBucket.fields.tags;
    view.setUint16(bucket + offsetBytes + (slot % slotsPerBucket) * 2, 1, true);
    const whole = {
      ...NatSession.decode(new DataView(new ArrayBuffer(NatSession.sizeBytes)), 0),
      ...{ lowAddress: laptop, lowPort: 4_000, highAddress: remote, highPort: 443 },
      ...{ protocol: 17, flags: lowTranslated, lowExternalPort: 4_000, untilTick: NOW + 1 },
      ...session,
    };
    NatSession.encode(whole, view, this.#at(slot));
  }

  isKilled(slot: number): boolean {
    return NatSession.decode(new DataView(this.sessions), this.#at(slot)).killed === 1;
  }
}

function element(natClass: NatClass, port: number, place = 0): number {
  return (place * NatLimits.protocolClasses + natClass) * PORTS + port;
}

function forward(port: number, to: Partial<Forward> = {}): Forward {
  const end = { address: laptop, port: 80, class: NatClass.tcp, network: 0, ...to };
  return { ...end, element: element(end.class, port) };
}

const nothingEnds = { gonePlaces: [], goneAddresses: [], takenElements: new Set<number>() };

/** How many were ended. */
function endAll(tables: Tables, ending: Partial<Parameters<NatTableWriter['endSessions']>[0]>) {
  let count = 0;
  for (const ended of tables.writer.endSessions({ settings, ...nothingEnds, ...ending })) {
    count += ended;
  }
  return count;
}

test('a forward is a mapping that never ends, and its host finds it', () => {
  const tables = new Tables();
  const changes = tables.writer.putForwards([forward(8_080)], NOW);
  assert.deepEqual(changes, { takenElements: new Set(), lostMappings: [], unreferencedCount: 0 });
  const at = element(NatClass.tcp, 8_080);
  assert.deepEqual(tables.mapping(at), {
    internalAddress: laptop,
    internalPort: 80,
    network: 0,
    flags: live | fixed,
    untilTick: 0,
    establishedUntilTick: 0,
    establishedCount: 0,
    unansweredCount: 0,
    createdTick: NOW,
  });
  assert.deepEqual(tables.references(), [at + 1]);
  assert.equal(tables.writer.liveMappingCount(NOW + 1_000_000), 1);
  assert.equal(tables.writer.putForwards([forward(8_080)], NOW).takenElements.size, 0);
  assert.deepEqual(tables.references(), [at + 1]);
});

test('the reference lies in the bucket that the programs look into', () => {
  // Another program's SipHash-1-3 with the key 1, 2 over 0a4d0014 0050 00 and zeros.
  const tables = new Tables(65_536);
  tables.writer.putForwards([forward(8_080)], NOW);
  const words = new Uint32Array(tables.mappingBuckets);
  const place = words.findIndex((word) => word !== 0);
  assert.equal(Math.floor(place / 16), 56_641);
});

test('the first forward of a host wins, in whatever order they come and go', () => {
  const tables = new Tables();
  const both = [forward(8_080), forward(8_081)];
  tables.writer.putForwards(both, NOW);
  assert.deepEqual(tables.references(), [element(NatClass.tcp, 8_080) + 1]);
  tables.writer.putForwards([forward(8_081)], NOW);
  assert.deepEqual(tables.references(), [element(NatClass.tcp, 8_081) + 1]);
  assert.equal(tables.mapping(element(NatClass.tcp, 8_080)).flags, 0);
});

test('a forward takes the place of a mapping that was there, and its sessions end', () => {
  const tables = new Tables();
  const at = element(NatClass.udp, 6_000);
  tables.putMapping(at, { internalPort: 6_000 });
  tables.putSession(0, { lowAddress: phone, lowExternalPort: 6_000 });
  tables.putSession(1, { lowAddress: phone, lowExternalPort: 6_001 });
  tables.putSession(2, { lowAddress: phone, lowExternalPort: 6_000, protocol: 6 });
  const wanted = forward(6_000, { class: NatClass.udp, port: 6_000 });
  const { takenElements, lostMappings } = tables.writer.putForwards([wanted], NOW);
  assert.deepEqual([[...takenElements], lostMappings], [[at], [phone]]);
  assert.equal(endAll(tables, { takenElements }), 1);
  assert.deepEqual(
    [0, 1, 2].map((slot) => tables.isKilled(slot)),
    [true, false, false],
  );
});

test('a forward that another program was about to write comes through', () => {
  const tables = new Tables();
  tables.putMapping(element(NatClass.tcp, 8_080), { flags: busy, internalAddress: 0 });
  tables.writer.putForwards([forward(8_080)], NOW);
  assert.equal(tables.mapping(element(NatClass.tcp, 8_080)).internalAddress, laptop);
});

test('a forward that leads elsewhere, or nowhere, ends its sessions', () => {
  const tables = new Tables();
  const at = element(NatClass.tcp, 8_080);
  tables.writer.putForwards([forward(8_080)], NOW);
  const moved = tables.writer.putForwards([forward(8_080, { address: phone })], NOW);
  assert.deepEqual([...moved.takenElements], [at]);
  assert.equal(tables.mapping(at).internalAddress, phone);
  const removed = tables.writer.putForwards([], NOW);
  assert.deepEqual([[...removed.takenElements], removed.lostMappings], [[at], []]);
  assert.equal(tables.writer.liveMappingCount(NOW), 0);
});

test('references of mappings that live are left alone, and a full bucket is told', () => {
  const tables = new Tables(1);
  const words = new Uint32Array(tables.mappingBuckets);
  for (let place = 1; place <= NatLimits.referencesPerBucket; place++) {
    const at = element(NatClass.udp, 5_000 + place);
    tables.putMapping(at, { untilTick: place === 7 ? NOW : NOW + 1 });
    words[place] = at + 1;
  }
  assert.equal(tables.writer.putForwards([forward(80)], NOW).unreferencedCount, 0);
  assert.equal(words[7], element(NatClass.tcp, 80) + 1);
  const two = [forward(80), forward(81, { port: 81 })];
  assert.equal(tables.writer.putForwards(two, NOW).unreferencedCount, 1);
  words[7] = 0;
  assert.equal(tables.writer.refer([forward(80)], NOW), 0);
  assert.equal(words[7], element(NatClass.tcp, 80) + 1);
});

test('mappings of an address that went end, and those of hosts without a network', () => {
  const tables = new Tables();
  const places = {
    stays: element(NatClass.udp, 1, 0),
    gone: element(NatClass.udp, 1, 1),
    stranger: element(NatClass.udp, 2, 0),
    routed: element(NatClass.udp, 3, 0),
  };
  tables.putMapping(places.stays, {});
  tables.putMapping(places.gone, { establishedCount: 1, establishedUntilTick: NOW + 9 });
  tables.putMapping(places.stranger, { internalAddress: ip('10.79.0.1') });
  tables.putMapping(places.routed, { internalAddress: ip('10.78.0.9') });
  tables.writer.putForwards([forward(8_080)], NOW);
  assert.equal(tables.writer.liveMappingCount(NOW), 5);
  tables.writer.endMappings(settings, [1]);
  assert.equal(tables.writer.liveMappingCount(NOW), 2);
  // Still counted for their hosts, until the programs collect them.
  assert.equal(tables.mapping(places.gone).flags, live);
});

test('sessions end with their address or network, and no others', () => {
  const routed = ip('10.78.0.9');
  const nowhere = ip('10.79.0.9');
  const plain = { flags: 0 };
  const sessions: readonly (readonly [session: Partial<NatSession>, ends: boolean])[] = [
    [{}, false],
    [{ lowExternal: 1 }, true],
    [{ flags: lowTranslated | highTranslated, highAddress: phone, highExternal: 1 }, true],
    [{ flags: lowTranslated | highTranslated, highAddress: phone }, false],
    [{ lowAddress: nowhere }, true],
    [{ lowAddress: routed }, true],
    [{ ...plain, lowAddress: routed }, false],
    [{ ...plain, lowAddress: routed, highAddress: laptop }, false],
    [{ ...plain, lowAddress: nowhere }, true],
    [{ ...plain }, true],
    [{ ...plain, protocol: 50 }, false],
    // Of IPv6, with digests that happen to be such addresses.
    [{ ...plain, lowAddress: nowhere, network: NatSessionVersion.six }, false],
    [{ flags: entry, lowAddress: ip('198.51.100.9'), network: NatSessionVersion.six }, false],
    [{ flags: entry, lowAddress: ip('198.51.100.9') }, true],
    [{ flags: entry, lowAddress: laptop }, false],
  ];
  const tables = new Tables();
  for (const [index, [session]] of sessions.entries()) tables.putSession(index * 7, session);
  const ending = { gonePlaces: [1], goneAddresses: [ip('198.51.100.9')] };
  const count = sessions.filter(([, ends]) => ends).length;
  assert.equal(endAll(tables, ending), count);
  assert.deepEqual(
    sessions.map((_, index) => tables.isKilled(index * 7)),
    sessions.map(([, ends]) => ends),
  );
  assert.equal(endAll(tables, ending), 0);
});

test('each port of a forward has its own host port; hosts that are not translated get none', () => {
  const plan = {
    forwards: [
      {
        class: NatClass.udp,
        ports: { first: 6_000, last: 6_002 },
        internalAddress: laptop,
        internalPortFirst: 7_000,
      },
      {
        class: NatClass.tcp,
        ports: { first: 80, last: 80 },
        internalAddress: ip('10.78.0.9'),
        internalPortFirst: 80,
      },
    ],
  } as unknown as Parameters<typeof forwardsOf>[0];
  assert.deepEqual(
    forwardsOf(plan, { settings, mainPlace: 1 }).map(({ element: at, port }) => [at, port]),
    [
      [element(NatClass.udp, 6_000, 1), 7_000],
      [element(NatClass.udp, 6_001, 1), 7_001],
      [element(NatClass.udp, 6_002, 1), 7_002],
    ],
  );
  assert.deepEqual(forwardsOf(plan, { settings }), []);
});

test('whatever forwards come and go, the tables hold those of the last time and nothing else', () => {
  const one = fc.record({
    external: fc.integer({ min: 1, max: 40 }),
    port: fc.integer({ min: 1, max: 5 }),
    address: fc.constantFrom(laptop, phone),
  });
  const lists = fc.array(fc.uniqueArray(one, { selector: ({ external }) => external }), {
    minLength: 1,
    maxLength: 5,
  });
  fc.assert(
    fc.property(lists, (steps) => {
      const tables = new Tables(8);
      for (const step of steps) {
        const forwards = step.map(({ external, ...to }) => forward(external, to));
        tables.writer.putForwards(forwards, NOW);
        assert.equal(tables.writer.liveMappingCount(NOW), forwards.length);
        for (const { element: at, address, port } of forwards) {
          const { internalAddress, internalPort, flags } = tables.mapping(at);
          assert.deepEqual([internalAddress, internalPort, flags], [address, port, live | fixed]);
        }
        const ends = new Set(forwards.map(({ address, port }) => `${address}:${port}`));
        const living = tables.references().filter((one) => tables.mapping(one - 1).flags !== 0);
        const found = new Set(
          living.map((reference) => {
            const { internalAddress, internalPort } = tables.mapping(reference - 1);
            return `${internalAddress}:${internalPort}`;
          }),
        );
        assert.deepEqual(found, ends);
      }
    }),
    { numRuns: 20 },
  );
});
