import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  CANDIDATES_MAX,
  keepPort,
  type PortRequest,
  rangesFor,
  searchPort,
} from './port-choice.ts';

const request: PortRequest = {
  class: 'udp',
  port: 5000,
  hash: 0n,
  pool: { first: 1024, last: 61_439 },
  isMapped: () => false,
  isOwn: () => false,
};

/** Where the search starts, and in which strides it goes on: ten bits serve something else. */
function startingAt(number: number, stride = 1): bigint {
  return (BigInt(number) << 10n) | (BigInt(stride) << 40n);
}

/** In the best range, where nothing was skipped. */
function search(asked: PortRequest, skipped = 0): number | undefined {
  const [best] = rangesFor(asked);
  return best && searchPort(asked, best, skipped);
}

test('rfc4787-req3a a port that is free is kept, within its own range alone', () => {
  assert.equal(keepPort(request), 5000);
  assert.equal(keepPort({ ...request, port: 1023 }), 1023);
  assert.equal(keepPort({ ...request, port: 61_440 }), undefined);
  assert.equal(keepPort({ ...request, isMapped: () => true }), undefined);
});

test("survive-71 a port of the gateway's own sockets is never given away", () => {
  const isOwn = (port: number) => port === 5000 || port === 5002;
  assert.equal(keepPort({ ...request, isOwn }), undefined);
  const hash = startingAt((5000 - 1024) / 2);
  assert.equal(search({ ...request, isOwn, hash }), 5004);
});

test('identifiers of pings are no ports of sockets, and all of them may be used', () => {
  const identifiers = { ...request, class: 'icmp', isOwn: () => true } as const;
  assert.equal(keepPort({ ...identifiers, port: 0 }), 0);
  const hash = startingAt(65_535);
  const isMapped = (port: number) => port === 65_535;
  assert.equal(search({ ...identifiers, hash, isMapped }), 0);
});

test('a search steps over eight ports of the gateway and no more', () => {
  const isOwn = (limit: number) => (port: number) => port < limit;
  assert.equal(search({ ...request, isOwn: isOwn(1024 + 2 * 8) }), 1040);
  assert.equal(search({ ...request, isOwn: isOwn(1024 + 2 * 9) }), undefined);
});

test('a search finds every free port of its range, and no other', () => {
  const ports = fc.record({
    first: fc.integer({ min: 1024, max: 1100 }),
    size: fc.integer({ min: 1, max: 60 }),
    port: fc.integer({ min: 1024, max: 65_535 }),
    start: fc.nat(1000),
    stride: fc.nat(0xffff),
    free: fc.nat(61),
  });
  fc.assert(
    fc.property(ports, ({ first, size, port, start, stride, free }) => {
      const only = first + free;
      const isMapped = (candidate: number) => candidate !== only;
      const pool = { first, last: first + size };
      const asked = { ...request, pool, port, hash: startingAt(start, stride), isMapped };
      const found = rangesFor(asked).map((range) => searchPort(asked, range, 0));
      const isSameParity = only % 2 === port % 2;
      const expected = only > pool.last ? undefined : only;
      assert.deepEqual(found, isSameParity ? [expected, undefined] : [undefined, expected]);
    }),
  );
});

test('a nearly full range is searched in a few tries, however its taken ports stand', () => {
  const firstFree = 61_439 - 2 * 300;
  let tries = 0;
  for (let start = 0; start < 100; start++) {
    const isMapped = (port: number) => {
      tries++;
      return port < firstFree;
    };
    const hash = startingAt(start, 40_503 + 2 * start);
    const found = search({ ...request, port: 5001, hash, isMapped });
    assert.ok(found !== undefined && found >= firstFree);
  }
  // One port in a hundred is free; neighbours would be tried 30,000 times for each.
  assert.ok(tries < 100 * 400, `${tries} tries`);
});

test('a pool without a port of the parity gives one of the other', () => {
  const pool = { first: 5001, last: 5001 };
  const names = rangesFor({ ...request, pool }).map(({ name }) => name);
  assert.deepEqual(names, ['pool 1']);
});

test('rfc4787-req3a well-known ports become others only when none of them is left', () => {
  const names = (port: number) => rangesFor({ ...request, port }).map(({ name }) => name);
  assert.deepEqual(names(80), ['well-known 0', 'well-known 1', 'pool 0', 'pool 1']);
  assert.deepEqual(names(5001), ['pool 1', 'pool 0']);
});

test('a search looks at a part of its range, and the next one at the part behind', () => {
  const only = 1024 + 2 * (CANDIDATES_MAX + 1);
  const isMapped = (port: number) => port !== only;
  assert.equal(search({ ...request, isMapped }), undefined);
  assert.equal(search({ ...request, isMapped }, CANDIDATES_MAX), only);
});

test("survive-71 the DHCP client's ports are the gateway's own, bound or not", () => {
  assert.equal(keepPort({ ...request, port: 68 }), undefined);
  assert.equal(keepPort({ ...request, port: 68, class: 'tcp' }), 68);
});
