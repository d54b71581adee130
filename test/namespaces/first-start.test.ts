/** From a machine that has just booted to the first rules, and over every restart: no gap. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';
import { waitFor } from '../../lab/wait-for.ts';
import {
  end,
  exitCodeOf,
  exitCodes,
  GatehouseLab,
  kill,
  output,
  TIMEOUT_MS,
} from './gatehouse-lab.ts';
import { missingOutbound, startPacketProbe, waitForPackets } from './packet-probe.ts';

const probing = { framesPerSecond: 5_000, durationMsMax: TIMEOUT_MS };

let place: GatehouseLab;

before(async () => {
  place = await GatehouseLab.start('firststart');
});

after(() => place.stop());

beforeEach(async () => {
  await place.reset();
  place.writeConfig();
});

async function forwarding(): Promise<string> {
  return (await output(place.gateway, 'sysctl', '-n', 'net.ipv4.ip_forward')).trim();
}

/** Packets that have reached the gateway from the internet. */
async function knockedAtWan(): Promise<number> {
  const text = await output(place.gateway, 'ip', '-s', '-j', 'link', 'show', 'wan0');
  return (JSON.parse(text) as [{ stats64: { rx: { packets: number } } }])[0].stats64.rx.packets;
}

async function refusedAtForward(): Promise<number> {
  const chain = ['inet', 'gatehouse', 'forward_requests'] as const;
  const text = await output(place.gateway, 'nft', 'list', 'chain', ...chain);
  return Number(/counter packets (\d+) bytes \d+ drop comment "built-in rest"/.exec(text)?.[1]);
}

test('survive-113 from nothing to the first rules, nothing passes that they do not allow', async () => {
  assert.equal(await forwarding(), '0');
  assert.equal(await place.table(), undefined);
  await using probe = await startPacketProbe(place, probing);
  const before = await knockedAtWan();
  await waitFor('packets that want in', knockedAtWan, {
    timeoutMs: TIMEOUT_MS,
    until: (packets) => packets > before + 1_000,
  });
  assert.deepEqual(probe.arrived(), { outbound: 0, inbound: 0 });
  await place.run();
  assert.equal(await forwarding(), '1');
  await waitForPackets(probe, 'outbound', 2_000);
  await waitFor('packets that the rules refuse', refusedAtForward, {
    timeoutMs: TIMEOUT_MS,
    until: (packets) => packets > 2_000,
  });
  const { inbound } = await probe.stop();
  assert.ok(inbound.sent > 3_000);
  assert.equal(inbound.arrived, 0);
});

test('survive-113 over restarts and kills, what is allowed passes and what is not does not', async () => {
  let core = await place.run();
  await using probe = await startPacketProbe(place, probing);
  for (const stop of [end, kill, end, kill]) {
    await waitForPackets(probe, 'outbound', 200);
    await stop(core);
    await waitForPackets(probe, 'outbound', 200);
    core = await place.run();
  }
  const probed = await probe.stop();
  assert.equal(probed.inbound.arrived, 0);
  assert.equal(missingOutbound(probed), 0);
});

test('survive-113 on a machine that forwards already, a start closes it before anything else', async () => {
  await output(place.gateway, 'sysctl', '-w', 'net.ipv4.ip_forward=1');
  const core = await place.run();
  await using probe = await startPacketProbe(place, probing);
  await waitForPackets(probe, 'outbound', 500);
  await end(core);
  await waitForPackets(probe, 'outbound', 500);
  assert.equal((await probe.stop()).inbound.arrived, 0);
});

for (const before of ['0', '1']) {
  test(`survive-113 with a config that has problems, nothing passes, ip_forward ${before} before`, async () => {
    await output(place.gateway, 'sysctl', '-w', `net.ipv4.ip_forward=${before}`);
    writeFileSync(place.configFile, `${place.readConfig()}nonsense: true\n`);
    const running = place.spawn();
    const code = await exitCodeOf(running);
    await using probe = await startPacketProbe(place, probing);
    const since = await knockedAtWan();
    await waitFor('packets that want in', knockedAtWan, {
      timeoutMs: TIMEOUT_MS,
      until: (packets) => packets > since + 1_000,
    });
    const { inbound, outbound } = await probe.stop();
    assert.deepEqual([inbound.arrived, outbound.arrived], [0, 0]);
    assert.match(running.output().stderr, /nonsense/);
    assert.equal(code, exitCodes.configProblems);
  });
}
