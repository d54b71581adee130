/** What goes fast follows neighbours, routes and interfaces as what is routed does. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { basename } from 'node:path';
import { test } from 'node:test';
import { RawSocket } from '../../lab/raw-socket.ts';
import type { IcmpError } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { output } from './gatehouse-lab.ts';
import { assertConnected, openConnection } from './nat-connection.ts';
import { assertWay, describeFastPath, Flow, frameWith, later, macAddressOf } from './nat-flow.ts';
import {
  ARRIVAL_MS,
  addresses,
  endpointOf,
  type HostName,
  LinkCapture,
  type NatLab,
} from './nat-lab.ts';
import { udpPacket } from './nat-packets.ts';

const { external, gatewayLan, isp, server } = addresses;
const UNREACHABLE = 3;
const NET_UNREACHABLE = 0;
const HOST_UNREACHABLE = 1;
const PROHIBITED = 13;
const NO_OPERATION = 1;
/** An error about what was sent comes within it, or is not told. */
const TOLD_MS = 500;
/** Of nobody. */
const OTHER_NEXT_HOP = { address: '198.51.100.77', mac: '02:67:00:00:00:77' };

/**
 * What a flow sends is refused by a route. Of that Linux tells one host five times, and then once a
 * second (ip_error, which no setting of a namespace changes), so the flow asks until it is told.
 */
async function assertRefused(flow: Flow, expected: Partial<IcmpError>): Promise<void> {
  const ask = (): Promise<IcmpError | undefined> => {
    flow.sendOut('lost');
    return flow.inside.nextError(TOLD_MS).catch(() => undefined);
  };
  const error = await waitFor('a refusal by a route', ask, { timeoutMs: ARRIVAL_MS });
  assert.deepEqual({ ...error, ...expected }, error);
}

/** The gateway's `ip`. */
function ip(place: NatLab, words: string): Promise<string> {
  return place.output('gateway', 'ip', ...words.split(' '));
}

/** In force until the end of the test. @param words a route of the gateway */
async function withRoute(place: NatLab, words: string): Promise<AsyncDisposable> {
  await ip(place, `route add ${words}`);
  return later(() => ip(place, `route del ${words}`));
}

/** The host tells its neighbours. @returns when the gateway has heard it */
async function changeMac(
  place: NatLab,
  host: 'alice' | 'isp',
  to: { readonly interfaceName: string; readonly mac: string; readonly seenAt: string },
): Promise<void> {
  const { interfaceName, mac, seenAt } = to;
  await place.output(host, 'sysctl', '-w', `net.ipv4.conf.${interfaceName}.arp_notify=1`);
  await place.output(host, 'ip', 'link', 'set', 'dev', interfaceName, 'address', mac);
  const shown = () => ip(place, `neigh show ${addresses[host]} dev ${seenAt}`);
  const until = (text: string) => text.includes(mac);
  await waitFor('the gateway to hear it', shown, { timeoutMs: ARRIVAL_MS, until });
}

function setSysctl(place: NatLab, host: HostName, setting: string): Promise<string> {
  return place.output(host, 'sysctl', '-w', setting);
}

/** Packets of a judged session that cannot go fast, and one that can. */
const kindsOfPackets: Readonly<
  Record<string, (parts: { place: NatLab; flow: Flow; payload: Buffer }) => void>
> = {
  'plain datagrams': ({ flow, payload }) => flow.sendOut(payload),
  'datagrams with options': ({ place, flow, payload }) => {
    using raw = RawSocket.open(place.host('alice'));
    const options = Array<number>(8).fill(NO_OPERATION);
    const ends = { from: endpointOf(flow.inside), to: endpointOf(flow.outside) };
    raw.send(server, udpPacket({ ...ends, payload, options }));
  },
  fragments: ({ flow, payload }) => flow.sendOut(Buffer.concat([payload, randomBytes(4_000)])),
};

async function sentBy(place: NatLab, interfaceName: string): Promise<number> {
  const text = await ip(place, `-s -json link show dev ${interfaceName}`);
  const [link] = JSON.parse(text) as { readonly stats64: { readonly tx: { packets: number } } }[];
  return link?.stats64.tx.packets ?? assert.fail(text);
}

/** An interface of the gateway that the product knows nothing about. */
async function addOtherInterface(place: NatLab): Promise<AsyncDisposable> {
  await ip(place, 'link add other0 type veth peer name other1');
  await ip(place, 'address add 10.99.0.1/24 dev other0');
  for (const name of ['other0', 'other1']) await ip(place, `link set dev ${name} up`);
  await ip(place, 'neigh add 10.99.0.2 lladdr 02:67:00:00:00:99 dev other0 nud permanent');
  return later(() => ip(place, 'link del other0'));
}

async function awaitInterface(place: NatLab, name: string, isThere: boolean): Promise<void> {
  const observe = async () => (await place.status()).nat.interfaces;
  await waitFor(`${name} ${isThere ? 'with' : 'without'} the programs`, observe, {
    timeoutMs: ARRIVAL_MS,
    until: (all) => all.some((one) => one.name === name && (one.state === 'attached') === isThere),
  });
}

/** The gateway asks its neighbours in the LAN soon whether they are still there. */
async function withShortMemory(place: NatLab): Promise<AsyncDisposable> {
  const set = async (settings: Readonly<Record<string, number>>) => {
    for (const [name, value] of Object.entries(settings)) {
      await setSysctl(place, 'gateway', `net.ipv4.neigh.lan0.${name}=${value}`);
    }
  };
  const before = { base_reachable_time_ms: 30_000, retrans_time_ms: 1_000 };
  await set({ base_reachable_time_ms: 200, retrans_time_ms: 100, delay_first_probe_time: 1 });
  // Whatever is known already has the timers of before.
  await ip(place, `neigh del ${addresses.alice} dev lan0`);
  return later(() => set({ ...before, delay_first_probe_time: 5 }));
}

/** The gateway knows where alice is, and asks no more whether that is so until it sends there. */
async function makeStale(place: NatLab): Promise<void> {
  const mac = await macAddressOf(place, 'alice', 'eth0');
  await ip(place, `neigh replace ${addresses.alice} lladdr ${mac} dev lan0 nud stale`);
}

describeFastPath({ name: 'natfastnet' }, (place, fastPath) => {
  const judged = () => Flow.judged(place(), { fastPath });
  /** The flow and a connection go on, fast where that is switched on. */
  const assertGoesOn = (flow: Flow) =>
    assertWay(place(), { fastPath, packets: 2 }, async () => {
      await flow.assertPasses();
      await flow.assertPasses();
    });

  test('a flow follows the next router to another link-layer address', async () => {
    using flow = await judged();
    const mac = await macAddressOf(place(), 'isp', 'wan0');
    const change = (to: string) =>
      changeMac(place(), 'isp', { interfaceName: 'wan0', mac: to, seenAt: 'wan0' });
    await change('02:67:00:00:00:aa');
    await assertGoesOn(flow);
    await change(mac);
    await assertGoesOn(flow);
  });

  test('a flow follows a host inside to another link-layer address', async () => {
    using flow = await judged();
    const mac = await macAddressOf(place(), 'alice', 'eth0');
    const change = (to: string) =>
      changeMac(place(), 'alice', { interfaceName: 'eth0', mac: to, seenAt: 'lan0' });
    await change('02:67:00:00:00:bb');
    await assertGoesOn(flow);
    await change(mac);
    await assertGoesOn(flow);
  });

  test('a flow goes on when the gateway has another link-layer address', async () => {
    using flow = await judged();
    const mac = await macAddressOf(place(), 'gateway', 'lan0');
    for (const to of ['02:67:00:00:00:cc', mac]) {
      await ip(place(), `link set dev lan0 address ${to}`);
      await place().output('alice', 'ip', 'neigh', 'flush', 'dev', 'eth0');
      await place().output('bob', 'ip', 'neigh', 'flush', 'dev', 'eth0');
      await assertGoesOn(flow);
      // The core tells the program of it, within about a second.
      if (fastPath === 'xdp') await flow.assertGoesAtXdp(place());
    }
  });

  for (const [neighbour, device] of [
    [isp, 'wan0'],
    [addresses.alice, 'lan0'],
  ] as const) {
    test(`nothing is lost when the gateway forgets its neighbour at ${device}`, async () => {
      using flow = await judged();
      const isOut = device === 'wan0';
      const payloads = Array.from({ length: 30 }, (_, index) => `${index}`);
      for (const payload of payloads) {
        if (Number(payload) % 10 === 5) await ip(place(), `neigh del ${neighbour} dev ${device}`);
        if (isOut) flow.sendOut(payload);
        else flow.sendIn(payload);
      }
      const receiver = isOut ? flow.outside : flow.inside;
      const arrived = new Set<string>();
      while (arrived.size < payloads.length) {
        arrived.add(`${(await receiver.nextDatagram(ARRIVAL_MS)).payload}`);
      }
      await assertGoesOn(flow);
    });
  }

  test('survive-63 whoever talks to a host that is gone is told', async () => {
    using flow = await judged();
    await using _timers = await withShortMemory(place());
    await assertGoesOn(flow);
    const plug = (word: 'up' | 'down') =>
      output(place().lab.host('switch'), 'ip', 'link', 'set', 'dev', 'alice', word);
    await plug('down');
    await using _again = later(async () => {
      await plug('up');
      await place().lab.host('switch').waitForCarriers(['alice']);
      await place().host('alice').waitForCarriers(['eth0']);
    });
    const knock = () => {
      flow.sendIn('anybody there?');
      return flow.outside.takeError();
    };
    const { type, code, offender } = await waitFor('an error', knock, { timeoutMs: ARRIVAL_MS });
    const told = { type: UNREACHABLE, code: HOST_UNREACHABLE, offender: external };
    assert.deepEqual({ type, code, offender }, told);
  });

  test('a host that has another link-layer address and does not say so is found again', async () => {
    using flow = await judged();
    await using _timers = await withShortMemory(place());
    await assertGoesOn(flow);
    const mac = await macAddressOf(place(), 'alice', 'eth0');
    for (const to of ['02:67:00:00:00:dd', mac]) {
      await setSysctl(place(), 'alice', 'net.ipv4.conf.eth0.arp_notify=0');
      await makeStale(place());
      await place().output('alice', 'ip', 'link', 'set', 'dev', 'eth0', 'address', to);
      const knock = () => {
        flow.sendIn('are you there?');
        return flow.inside.drain().length > 0;
      };
      await waitFor('the host to be found', knock, { timeoutMs: 2 * ARRIVAL_MS });
      flow.sendIn('the last');
      const isLast = ({ payload }: { readonly payload: Uint8Array }) => `${payload}` === 'the last';
      while (!isLast(await flow.inside.nextDatagram(ARRIVAL_MS)));
      await assertGoesOn(flow);
    }
  });

  test('the next packet goes by the route that is new', async () => {
    using flow = await judged();
    const { address, mac } = OTHER_NEXT_HOP;
    await ip(place(), `neigh add ${address} lladdr ${mac} dev wan0 nud permanent`);
    const capture = await place().captureWan();
    const [there, back] = [randomUUID(), randomUUID()].map((text) => Buffer.from(text));
    assert.ok(there && back);
    await assertWay(place(), { fastPath, packets: 1 }, async () => {
      await using _route = await withRoute(place(), `${server} via ${address} dev wan0`);
      flow.sendOut(there);
      // What comes back by this one does not care.
      await flow.assertPassesIn();
    });
    flow.sendOut(back);
    await flow.outside.nextDatagram(ARRIVAL_MS);
    const frames = await capture.end();
    const macOf = (frame: Uint8Array) => Buffer.from(frame.subarray(0, 6)).toString('hex');
    assert.equal(macOf(frameWith(frames, there)), mac.replaceAll(':', ''));
    assert.notEqual(macOf(frameWith(frames, back)), mac.replaceAll(':', ''));
    await ip(place(), `neigh del ${address} dev wan0`);
  });

  test('RFC 5549: a flow goes on by a next hop that has an IPv6 address', async () => {
    using flow = await judged();
    await setSysctl(place(), 'gateway', 'net.ipv6.conf.all.disable_ipv6=0');
    await setSysctl(place(), 'gateway', 'net.ipv6.conf.wan0.disable_ipv6=0');
    await using _without = later(() =>
      setSysctl(place(), 'gateway', 'net.ipv6.conf.all.disable_ipv6=1'),
    );
    const mac = await macAddressOf(place(), 'isp', 'wan0');
    await ip(place(), `neigh add fe80::99 lladdr ${mac} dev wan0 nud permanent`);
    await using _route = await withRoute(place(), `${server} via inet6 fe80::99 dev wan0`);
    await flow.assertPasses();
    await flow.assertPasses();
  });

  for (const [what, words, code] of [
    ['unreachable', `unreachable ${server}`, HOST_UNREACHABLE],
    ['prohibited', `prohibit ${server}`, PROHIBITED],
  ] as const) {
    test(`survive-63 whoever sends where a route says ${what} is told, at once`, async () => {
      using flow = await judged();
      {
        await using _route = await withRoute(place(), words);
        await assertRefused(flow, { type: UNREACHABLE, code, offender: gatewayLan });
      }
      await assertGoesOn(flow);
    });
  }

  test('what a route sends into a black hole does not leave', async () => {
    using flow = await judged();
    {
      await using _route = await withRoute(place(), `blackhole ${server}`);
      flow.sendOut('lost');
    }
    await assertGoesOn(flow);
    assert.equal(flow.inside.takeError(), undefined);
  });

  test('rules of routing by the sender hold at once', async () => {
    using flow = await judged();
    const { port } = endpointOf(flow.outside);
    const rule = `from ${addresses.alice} iif lan0 ipproto udp dport ${port}`;
    {
      await ip(place(), `rule add ${rule} unreachable`);
      await using _rule = later(() => ip(place(), `rule del ${rule} unreachable`));
      await assertRefused(flow, { type: UNREACHABLE, code: NET_UNREACHABLE });
      await flow.assertPassesIn();
    }
    await assertGoesOn(flow);
  });

  for (const [what, send] of Object.entries(kindsOfPackets)) {
    test(`${what} that a new route leads to guests are judged as that`, async () => {
      using flow = await judged();
      const to = addresses.gatewayGuests;
      const options = { interfaceName: 'eth0', from: place().host('guest'), to };
      const captures = [await LinkCapture.start(options), await place().captureWan()];
      const payload = Buffer.from(randomUUID());
      // So that no neighbour is missing.
      await place().output('guest', 'ping', '-n', '-c', '1', '-W', '2', to);
      {
        await using _route = await withRoute(
          place(),
          `${server} via ${addresses.guest} dev guest0`,
        );
        send({ place: place(), flow, payload });
      }
      await assertGoesOn(flow);
      for (const capture of captures) {
        const shown = (await capture.end()).filter((one) => Buffer.from(one).includes(payload));
        assert.deepEqual(shown, []);
      }
    });

    test(`${what} that a new route leads out of all networks are judged as that`, async () => {
      using flow = await judged();
      await using _other = await addOtherInterface(place());
      const before = await sentBy(place(), 'other0');
      {
        await using _route = await withRoute(place(), `${server} via 10.99.0.2 dev other0`);
        send({ place: place(), flow, payload: Buffer.from('lost') });
      }
      await assertGoesOn(flow);
      assert.equal(await sentBy(place(), 'other0'), before);
    });
  }

  for (const [what, setting] of [
    ['the whole gateway', 'net.ipv4.ip_forward'],
    ['the LAN', 'net.ipv4.conf.lan0.forwarding'],
  ] as const) {
    test(`forwarding that is switched off for ${what} ends at once, and goes on later`, async () => {
      using flow = await judged();
      await setSysctl(place(), 'gateway', `${setting}=0`);
      flow.sendOut('lost');
      if (setting === 'net.ipv4.ip_forward') flow.sendIn('lost');
      await setSysctl(place(), 'gateway', `${setting}=1`);
      await assertGoesOn(flow);
    });
  }

  for (const name of ['lan0', 'wan0'] as const) {
    test(`flows and connections go on after ${name} was down`, async () => {
      using flow = await judged();
      const payload = Buffer.from(randomUUID());
      const capture = await place().captureWan();
      const { inside, outside } = await openConnection(place());
      await ip(place(), `link set dev ${name} down`);
      if (name === 'lan0') flow.sendIn(payload);
      await ip(place(), `link set dev ${name} up`);
      await place().host('gateway').waitForCarriers([name]);
      await place().lab.host('switch').waitForCarriers(['gateway']);
      await place().host('isp').waitForCarriers(['wan0']);
      if (name === 'wan0') await ip(place(), `route add default via ${isp}`);
      await flow.assertPassesOut();
      await assertGoesOn(flow);
      // It came, and was not sent back by the default route.
      if (name === 'lan0') frameWith(await capture.end(), payload);
      await assertWay(place(), { fastPath, packets: 2 }, () => assertConnected(inside, outside));
      inside.reset();
      outside.close();
      using _other = await judged();
    });
  }

  test('flows, connections and new ones go on when the LAN has another interface', async () => {
    using flow = await judged();
    const { inside, outside } = await openConnection(place());
    const mac = await macAddressOf(place(), 'gateway', 'lan0');
    await ip(place(), 'link del lan0');
    await awaitInterface(place(), 'lan0', false);
    const switchHost = place().lab.host('switch');
    const peer = `peer name gateway netns ${basename(switchHost.namespacePath)}`;
    await ip(place(), `link add lan0 address ${mac} type veth ${peer}`);
    await output(switchHost, 'ip', ...'link set dev gateway master switch0 up'.split(' '));
    await ip(place(), `address add ${gatewayLan}/24 dev lan0`);
    await ip(place(), 'link set dev lan0 up');
    await place().host('gateway').waitForCarriers(['lan0']);
    await switchHost.waitForCarriers(['gateway']);
    if (fastPath === 'xdp') await place().takeRedirected();
    await awaitInterface(place(), 'lan0', true);
    await flow.assertPassesOut();
    await assertGoesOn(flow);
    await assertWay(place(), { fastPath, packets: 2 }, () => assertConnected(inside, outside));
    inside.reset();
    outside.close();
    using _other = await judged();
  });
});
