/** What goes fast over IPv6 follows neighbours, routes and interfaces as what is routed does. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { basename } from 'node:path';
import { test } from 'node:test';
import type { IcmpError, UdpSocket } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { destinationOptions } from '../../src/testing/ipv6-packets.ts';
import { output } from './gatehouse-lab.ts';
import { assertConnected, openConnection } from './nat-connection.ts';
import { assertWay, describeFastPath, Flow, frameWith, later, macAddressOf } from './nat-flow.ts';
import { ipv6Datagram, sendPackets } from './nat-ipv6-packets.ts';
import {
  ARRIVAL_MS,
  addresses,
  endpointOf,
  type HostName,
  ipv6Addresses,
  LinkCapture,
  type NatLab,
} from './nat-lab.ts';

const { alice, gatewayLan, gatewayWan, isp, server } = ipv6Addresses;
const UNREACHABLE = 1;
const NO_ROUTE = 0;
const PROHIBITED = 1;
const ADDRESS_UNREACHABLE = 3;
/** Of nobody. */
const OTHER_NEXT_HOP = { address: '2001:db8:51::77', mac: '02:67:00:00:00:77' };

async function assertError(socket: UdpSocket, expected: Partial<IcmpError>): Promise<void> {
  const error = await socket.nextError(ARRIVAL_MS);
  assert.deepEqual({ ...error, ...expected }, error);
}

/** The gateway's `ip -6`. */
function ip(place: NatLab, words: string): Promise<string> {
  return place.output('gateway', 'ip', '-6', ...words.split(' '));
}

/** In force until the end of the test. @param words a route of the gateway */
async function withRoute(place: NatLab, words: string): Promise<AsyncDisposable> {
  await ip(place, `route add ${words}`);
  return later(() => ip(place, `route del ${words}`));
}

function setSysctl(place: NatLab, host: HostName, setting: string): Promise<string> {
  return place.output(host, 'sysctl', '-w', setting);
}

/** The host tells its neighbours. @returns when the gateway has heard it */
async function changeMac(
  place: NatLab,
  host: 'alice' | 'isp',
  to: { readonly interfaceName: string; readonly mac: string; readonly seenAt: string },
): Promise<void> {
  const { interfaceName, mac, seenAt } = to;
  await setSysctl(place, host, `net.ipv6.conf.${interfaceName}.ndisc_notify=1`);
  await place.output(host, 'ip', 'link', 'set', 'dev', interfaceName, 'address', mac);
  const shown = () => ip(place, `neigh show ${ipv6Addresses[host]} dev ${seenAt}`);
  const until = (text: string) => text.includes(mac);
  await waitFor('the gateway to hear it', shown, { timeoutMs: ARRIVAL_MS, until });
}

/** Packets of a judged session: those that can go fast, and those that cannot. */
const kindsOfPackets: Readonly<
  Record<string, (parts: { place: NatLab; flow: Flow; payload: Buffer }) => void>
> = {
  'plain datagrams': ({ flow, payload }) => flow.sendOut(payload),
  'datagrams with options': ({ place, flow, payload }) => {
    const ends = { from: endpointOf(flow.inside), to: endpointOf(flow.outside) };
    const extensions = [destinationOptions()];
    sendPackets(place, 'alice', [ipv6Datagram({ ...ends, payload, extensions })]);
  },
  fragments: ({ flow, payload }) => flow.sendOut(Buffer.concat([payload, Buffer.alloc(4_000)])),
};

async function awaitInterface(place: NatLab, name: string, isThere: boolean): Promise<void> {
  const observe = async () => (await place.status()).nat.interfaces;
  await waitFor(`${name} ${isThere ? 'with' : 'without'} the programs`, observe, {
    timeoutMs: ARRIVAL_MS,
    until: (all) => all.some((one) => one.name === name && (one.state === 'attached') === isThere),
  });
}

describeFastPath({ name: 'natsixnet', ipv6: true }, (place, fastPath) => {
  const judged = () => Flow.judged(place(), { fastPath, family: 6 });
  /** The flow goes on, fast where that is switched on. */
  const assertGoesOn = (flow: Flow) =>
    assertWay(place(), { fastPath, packets: 2 }, async () => {
      await flow.assertPasses();
      await flow.assertPasses();
    });

  for (const [what, host, interfaceName, seenAt] of [
    ['the next router', 'isp', 'wan0', 'wan0'],
    ['a host inside', 'alice', 'eth0', 'lan0'],
  ] as const) {
    test(`a flow follows ${what} to another link-layer address`, async () => {
      using flow = await judged();
      const mac = await macAddressOf(place(), host, interfaceName);
      for (const to of ['02:67:00:00:00:aa', mac]) {
        await changeMac(place(), host, { interfaceName, mac: to, seenAt });
        await assertGoesOn(flow);
      }
    });
  }

  test('a flow goes on when the gateway has another link-layer address', async () => {
    using flow = await judged();
    const mac = await macAddressOf(place(), 'gateway', 'lan0');
    for (const to of ['02:67:00:00:00:cc', mac]) {
      await ip(place(), `link set dev lan0 address ${to}`);
      await place().output('alice', 'ip', '-6', 'neigh', 'flush', 'dev', 'eth0');
      await assertGoesOn(flow);
      // The core tells the program of it, within about a second.
      if (fastPath === 'xdp') await flow.assertGoesAtXdp(place());
    }
  });

  for (const [neighbour, device] of [
    [isp, 'wan0'],
    [alice, 'lan0'],
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

  test('whoever talks to a host that is gone is told', async () => {
    using flow = await judged();
    const timers = 'net.ipv6.neigh.lan0';
    const set = async (settings: Readonly<Record<string, number>>) => {
      for (const [name, value] of Object.entries(settings)) {
        await setSysctl(place(), 'gateway', `${timers}.${name}=${value}`);
      }
    };
    await set({ base_reachable_time_ms: 200, retrans_time_ms: 100, delay_first_probe_time: 1 });
    // Whatever is known already has the timers of before.
    await ip(place(), `neigh del ${alice} dev lan0`);
    await assertGoesOn(flow);
    const plug = (word: 'up' | 'down') =>
      output(place().lab.host('switch'), 'ip', 'link', 'set', 'dev', 'alice', word);
    await plug('down');
    await using _again = later(async () => {
      await plug('up');
      await place().lab.host('switch').waitForCarriers(['alice']);
      await place().host('alice').waitForCarriers(['eth0']);
      await set({ base_reachable_time_ms: 30_000, retrans_time_ms: 1_000 });
      await set({ delay_first_probe_time: 5 });
    });
    const knock = () => {
      flow.sendIn('anybody there?');
      return flow.outside.takeError();
    };
    const { type, code, offender } = await waitFor('an error', knock, { timeoutMs: ARRIVAL_MS });
    const told = { type: UNREACHABLE, code: ADDRESS_UNREACHABLE, offender: gatewayWan };
    assert.deepEqual({ type, code, offender }, told);
  });

  test('the next packet goes by the route that is new', async () => {
    using flow = await judged();
    const { address, mac } = OTHER_NEXT_HOP;
    await ip(place(), `neigh add ${address} lladdr ${mac} dev wan0 nud permanent`);
    const capture = await place().captureWan();
    const there = Buffer.from(randomUUID());
    const back = Buffer.from(randomUUID());
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

  for (const [what, words, code] of [
    ['unreachable', `unreachable ${server}`, NO_ROUTE],
    ['prohibited', `prohibit ${server}`, PROHIBITED],
  ] as const) {
    test(`whoever sends where a route says ${what} is told, at once`, async () => {
      using flow = await judged();
      {
        await using _route = await withRoute(place(), words);
        flow.sendOut('lost');
        await assertError(flow.inside, { type: UNREACHABLE, code, offender: gatewayLan });
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
    const rule = `from ${alice} iif lan0 ipproto udp dport ${endpointOf(flow.outside).port}`;
    {
      await ip(place(), `rule add ${rule} unreachable`);
      await using _rule = later(() => ip(place(), `rule del ${rule} unreachable`));
      flow.sendOut('lost');
      await assertError(flow.inside, { type: UNREACHABLE, code: NO_ROUTE });
      await flow.assertPassesIn();
    }
    await assertGoesOn(flow);
  });

  for (const [what, send] of Object.entries(kindsOfPackets)) {
    test(`${what} that a new route leads to guests are judged as that`, async () => {
      using flow = await judged();
      const options = {
        ...{ interfaceName: 'eth0', from: place().host('guest') },
        to: addresses.gatewayGuests,
      };
      const captures = [await LinkCapture.start(options), await place().captureWan()];
      const payload = Buffer.from(randomUUID());
      // So that no neighbour is missing.
      const words = ['-n', '-c', '1', '-W', '2', ipv6Addresses.gatewayGuests];
      await place().output('guest', 'ping', ...words);
      {
        const way = `${server} via ${ipv6Addresses.guest} dev guest0`;
        await using _route = await withRoute(place(), way);
        send({ place: place(), flow, payload });
      }
      await assertGoesOn(flow);
      for (const capture of captures) {
        const shown = (await capture.end()).filter((one) => Buffer.from(one).includes(payload));
        assert.deepEqual(shown, []);
      }
    });
  }

  test('forwarding that is switched off ends at once, and goes on later', async () => {
    using flow = await judged();
    await setSysctl(place(), 'gateway', 'net.ipv6.conf.all.forwarding=0');
    flow.sendOut('lost');
    flow.sendIn('lost');
    await setSysctl(place(), 'gateway', 'net.ipv6.conf.all.forwarding=1');
    await assertGoesOn(flow);
  });

  for (const name of ['lan0', 'wan0'] as const) {
    test(`flows and connections go on after ${name} was down`, async () => {
      using flow = await judged();
      const payload = Buffer.from(randomUUID());
      const capture = await place().captureWan();
      const { inside, outside } = await openConnection(place(), { family: 6 });
      await ip(place(), `link set dev ${name} down`);
      if (name === 'lan0') flow.sendIn(payload);
      await ip(place(), `link set dev ${name} up`);
      await place().host('gateway').waitForCarriers([name]);
      await place().lab.host('switch').waitForCarriers(['gateway']);
      await place().host('isp').waitForCarriers(['wan0']);
      if (name === 'wan0') {
        await ip(place(), `route replace default via ${isp}`);
        await place().output('gateway', 'ip', 'route', 'add', 'default', 'via', addresses.isp);
      }
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
    const { inside, outside } = await openConnection(place(), { family: 6 });
    const mac = await macAddressOf(place(), 'gateway', 'lan0');
    await ip(place(), 'link del lan0');
    await awaitInterface(place(), 'lan0', false);
    const switchHost = place().lab.host('switch');
    const peer = `peer name gateway netns ${basename(switchHost.namespacePath)}`;
    await ip(place(), `link add lan0 address ${mac} type veth ${peer}`);
    await output(switchHost, 'ip', ...'link set dev gateway master switch0 up'.split(' '));
    await ip(place(), `address add ${gatewayLan}/64 dev lan0 nodad`);
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
