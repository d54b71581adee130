/** What changes about an address has its sessions judged once more, and costs others nothing. */
import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { test } from 'node:test';
import { natObject } from '../../src/abi/nat.generated.ts';
import { BpfMap, type MappedArray } from '../../src/linux/bpf-map.ts';
import { attachedNatPrograms } from '../../src/linux/core/nat-object.ts';
import { raiseAddressGenerations } from '../../src/linux/core/rules-generation.ts';
import { KERNEL_NAME_LENGTH_MAX, mapsOfPrograms } from '../../src/linux/kernel-objects.ts';
import { generationPlaceOf } from '../../src/nat/generations.ts';
import { requireAddressRange } from '../../src/net/address-range.ts';
import { requireIpv4Address } from '../../src/net/ipv4-address.ts';
import { kill } from './gatehouse-lab.ts';
import { describeFastPath, Flow } from './nat-flow.ts';
import { addresses, type FastPath, type NatLab } from './nat-lab.ts';

describeFastPath({ name: 'natfastchange' }, (place, fastPath) => {
  const judged = (from: 'alice' | 'bob', to: 'server' | 'stranger') =>
    Flow.judged(place(), { fastPath, from, to });
  const assertJudgedAnew = (flow: Flow) => assertMoved(place(), judgedAnew(fastPath), flow);
  const assertGoesOn = (flow: Flow) => assertMoved(place(), goneOn(fastPath), flow);

  for (const [whose, address] of [
    ['a host', addresses.alice],
    ['a remote', addresses.server],
  ] as const) {
    test(`a change about ${whose} has its sessions judged once more, and no others`, async () => {
      using alices = await judged('alice', 'server');
      using bobs = await judged('bob', 'stranger');
      changeAbout(place(), address);
      await assertGoesOn(bobs);
      await assertJudgedAnew(alices);
      await assertGoesOn(alices);
      await assertGoesOn(bobs);
    });
  }

  test('a change about what a host is outside has none of its sessions judged once more', async () => {
    using flow = await judged('alice', 'server');
    changeAbout(place(), addresses.external);
    await assertGoesOn(flow);
  });

  test('the numbers of addresses outlive the core, and count on behind it', async () => {
    const before = numberOf(place(), addresses.alice);
    changeAbout(place(), addresses.alice);
    await kill(place().core);
    await place().run();
    await place().awaitHealth();
    assert.equal(numberOf(place(), addresses.alice), before + 1);
    using flow = await judged('alice', 'server');
    changeAbout(place(), addresses.alice);
    await assertJudgedAnew(flow);
  });
});

/** Datagrams, by what was asked about them. */
interface Asked {
  /** By the rules for requests, and for replies. */
  readonly requests: number;
  readonly replies: number;
  /** By the first rule alone. */
  readonly approved: number;
  /** By none, at XDP or tc. */
  readonly fast: number;
}

/** What one datagram each way moves, and then another one. */
function judgedAnew(fastPath: FastPath): Asked {
  const goesOn = fastPath === 'off' ? { approved: 2, fast: 0 } : { approved: 0, fast: 2 };
  return { requests: 1, replies: 1, ...goesOn };
}

function goneOn(fastPath: FastPath): Asked {
  const goesOn = fastPath === 'off' ? { approved: 4, fast: 0 } : { approved: 0, fast: 4 };
  return { requests: 0, replies: 0, ...goesOn };
}

/** Of four datagrams, the first of which comes from outside. */
async function assertMoved(place: NatLab, expected: Asked, flow: Flow): Promise<void> {
  const before = await askedSoFar(place);
  for (let round = 0; round < 2; round++) {
    await flow.assertPassesIn();
    await flow.assertPassesOut();
  }
  const after = await askedSoFar(place);
  assert.deepEqual(
    {
      requests: after.requests - before.requests,
      replies: after.replies - before.replies,
      approved: after.approved - before.approved,
      fast: after.fast - before.fast,
    },
    expected,
  );
}

/** nft's rules count, and the NAT's programs. */
async function askedSoFar(place: NatLab): Promise<Asked> {
  const text = await place.output('gateway', 'nft', '-j', 'list', 'table', 'inet', 'gatehouse');
  const { nftables } = JSON.parse(text) as {
    nftables: { rule?: { chain: string; comment?: string; expr: Record<string, unknown>[] } }[];
  };
  const packets = (chain: string, comment: string): number => {
    const found = nftables.flatMap(({ rule }) => {
      return rule?.chain === chain && rule.comment === comment ? [rule] : [];
    });
    assert.equal(found.length, 1, `${chain} ${comment}`);
    const counted = found[0]?.expr.find((one) => 'counter' in one)?.['counter'];
    return (counted as { readonly packets: number }).packets;
  };
  return {
    requests: packets('forward_requests', 'built-in outbound'),
    replies: packets('forward_replies', 'built-in outbound/reply'),
    approved: packets('forward', 'built-in approved'),
    fast: await place.fastCount(),
  };
}

/** As the core does when a table of the rules has an address, or no longer does. */
function changeAbout(place: NatLab, address: string): void {
  const range = requireAddressRange(`${address}-${address}`);
  const hashKey = [0n, 0n];
  withNumbers(place, ({ buffer: memory }) =>
    assert.ok(raiseAddressGenerations({ memory, hashKey }, [range])),
  );
}

function numberOf(place: NatLab, address: string): number {
  return withNumbers(place, ({ buffer }) => {
    const number = new Uint32Array(buffer)[generationPlaceOf(requireIpv4Address(address))];
    return number ?? assert.fail(address);
  });
}

/** Of addresses, in the gateway's kernel. */
function withNumbers<T>(place: NatLab, action: (memory: MappedArray) => T): T {
  const map = natObject.maps.natAddressGenerations;
  const found = place.host('gateway').enter(() => mapsOfPrograms(attachedNatPrograms()));
  try {
    const [one, ...others] = found.filter(
      ({ name }) => name === map.name.slice(0, KERNEL_NAME_LENGTH_MAX),
    );
    assert.ok(one !== undefined && others.length === 0, 'the programs share one map');
    const memory = new BpfMap({ ...map, fd: one.fd }).mapMemory();
    try {
      return action(memory);
    } finally {
      memory.unmap();
    }
  } finally {
    for (const { fd } of found) closeSync(fd);
  }
}
