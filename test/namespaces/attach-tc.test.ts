/** Our places at tcx and at clsact: who stands there, who is replaced, who is left alone. */
import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { protocolCountersObject } from '../../src/abi/protocol-counters.generated.ts';
import { attachedTcProgramId, attachTc, clearTcPlace } from '../../src/linux/attach.ts';
import { type BpfObject, loadBpfObject, openLoadedBpfObject } from '../../src/linux/bpf-object.ts';
import { inNetworkNamespace, interfaceIndex } from '../../src/linux/libc.ts';
import { unlinkedPrograms } from '../../src/linux/tcx.ts';
import { protocolCounts } from '../../src/traffic/protocol-counts.ts';
import {
  attachStrangers,
  loadVerdictProgram,
  TCX_DROP,
  TCX_NEXT,
  TCX_PROGRAM_COUNT_MAX,
} from './verdict-programs.ts';

/** Without IPv6, so that nobody sends what the test did not ask for. */
const quiet = { 'net.ipv6.conf.all.disable_ipv6': '1', 'net.ipv6.conf.default.disable_ipv6': '1' };

let lab: Lab;
let left: LabHost;
let leftEgress: readonly [ReturnType<typeof target>, 'egress', 'counting'];

before(async () => {
  lab = await Lab.start(
    {
      hosts: {
        left: { addresses: { eth0: ['192.0.2.1/24'] }, sysctls: quiet },
        right: { addresses: { eth0: ['192.0.2.2/24'] }, sysctls: quiet },
      },
      links: { wire: { ends: ['left:eth0', 'right:eth0'] } },
    },
    { name: 'attachtc' },
  );
  left = lab.host('left');
  leftEgress = [target(left), 'egress', 'counting'];
});

after(() => lab.stop());

/** A test that failed leaves nothing to the next. */
afterEach(() => {
  for (const place of ['counting', 'nat'] as const) clearTcPlace(target(left), 'egress', place);
});

function target(host: LabHost, name = 'eth0') {
  return { interface: name, networkNamespace: host.namespacePath };
}

async function output(host: LabHost, ...argv: [string, ...string[]]): Promise<string> {
  const result = await host.run(argv, { timeoutMs: 20_000 });
  assert.ok(result.success, `${argv.join(' ')}: ${result.stderr}`);
  return result.stdout;
}

async function ping(count: number): Promise<void> {
  await output(left, 'ping', '-c', String(count), '-i', '0.01', '192.0.2.2');
}

async function echoFails(): Promise<void> {
  const argv = ['ping', '-c', '1', '-W', '1', '192.0.2.2'] as const;
  assert.equal((await left.run(argv, { timeoutMs: 20_000 })).success, false);
}

/** Echo requests that a program has met. */
function echoes(object: BpfObject<typeof protocolCountersObject>): number {
  const rows = protocolCounts(object.maps.protocolCounters.entries(), new Map());
  const row = rows.find((one) => one.direction === 'egress' && one.protocol === 'ipv4/icmp');
  return Number(row?.packets ?? 0n);
}

for (const hook of ['tcx', 'clsact'] as const) {
  test(`at ${hook}, what a process before us attached is replaced, not doubled`, async () => {
    using before = loadBpfObject(protocolCountersObject);
    using now = loadBpfObject(protocolCountersObject);
    attachTc(before.programs.countProtocolsTcEgress, ...leftEgress, { hook });
    // The next process looks for itself where it stands.
    const attachment = attachTc(now.programs.countProtocolsTcEgress, ...leftEgress);
    assert.equal(attachment.hook, hook);
    await ping(3);
    assert.equal(echoes(now), 3);
    assert.equal(echoes(before), 0);
    // The same one again changes nothing.
    attachTc(now.programs.countProtocolsTcEgress, ...leftEgress);
    attachment.detach();
    assert.throws(() => attachment.detach(), /detach count_protocols_tc_egress from eth0 at tc eg/);
  });

  test(`at ${hook}, another program of ours in the place is neither detached nor kept from it`, () => {
    using first = loadBpfObject(protocolCountersObject);
    using second = loadBpfObject(protocolCountersObject);
    const before = attachTc(first.programs.countProtocolsTcEgress, ...leftEgress, { hook });
    const { countProtocolsTcEgress } = second.programs;
    const now = attachTc(countProtocolsTcEgress, ...leftEgress, { hook });
    const { id } = countProtocolsTcEgress;
    assert.throws(() => before.detach(), RegExp(`ENOENT: program ${id} stands in its place`));
    assert.equal(attachedTcProgramId(...leftEgress), id);
    now.detach();
  });

  test(`survive-83 at ${hook}, what a dead process counted goes on in the maps of its attached program`, async () => {
    {
      using before = loadBpfObject(protocolCountersObject);
      attachTc(before.programs.countProtocolsTcEgress, ...leftEgress, { hook });
      await ping(3);
    }
    // Nobody holds the object now; the kernel goes on counting.
    await ping(4);
    const id = attachedTcProgramId(...leftEgress);
    assert.notEqual(id, undefined);
    using after = loadBpfObject(protocolCountersObject, { adoptMapsOf: id ?? 0 });
    const attachment = attachTc(after.programs.countProtocolsTcEgress, ...leftEgress);
    await ping(5);
    assert.equal(echoes(after), 12);
    attachment.detach();
    assert.equal(attachedTcProgramId(...leftEgress), undefined);
  });

  test(`survive-83 at ${hook}, programs of a dead process are held again as they are, with their maps`, async () => {
    const ids = { countProtocolsTcEgress: 0, countProtocolsTcIngress: 0, countProtocolsXdp: 0 };
    using before = loadBpfObject(protocolCountersObject);
    for (const name of Object.keys(ids) as (keyof typeof ids)[]) {
      ids[name] = before.programs[name].id;
    }
    attachTc(before.programs.countProtocolsTcEgress, ...leftEgress, { hook });
    await ping(3);
    using after = openLoadedBpfObject(protocolCountersObject, ids) ?? assert.fail();
    before.close();
    assert.equal(echoes(after), 3);
    assert.equal(after.programs.countProtocolsTcEgress.id, ids.countProtocolsTcEgress);
    const withoutOne = { ...ids, countProtocolsTcIngress: 2 ** 31 - 1 };
    assert.equal(openLoadedBpfObject(protocolCountersObject, withoutOne), undefined);
    assert.equal(clearTcPlace(...leftEgress), true);
    after.close();
    assert.equal(openLoadedBpfObject(protocolCountersObject, ids), undefined);
  });

  test(`at ${hook}, each of our places has a program of its own, and packets meet them in order`, async () => {
    using counters = loadBpfObject(protocolCountersObject);
    const { countProtocolsTcEgress } = counters.programs;
    const nat = loadVerdictProgram('nat_wan_egress', TCX_DROP);
    const other = loadVerdictProgram('nat_inside_egress'.slice(0, 15), TCX_NEXT);
    const place = [target(left), 'egress', 'nat'] as const;
    try {
      // The later place first: counting comes in front of it all the same.
      const attachment = attachTc(nat, ...place, { hook });
      attachTc(countProtocolsTcEgress, ...leftEgress, { hook });
      assert.equal(attachedTcProgramId(...place), nat.id);
      await echoFails();
      const lost = echoes(counters);
      assert.ok(lost > 0);
      attachment.replace(other);
      await ping(3);
      assert.equal(echoes(counters), lost + 3);
      assert.equal(attachedTcProgramId(...place), other.id);
      // Whoever put it there.
      assert.equal(clearTcPlace(...leftEgress), true);
      assert.equal(clearTcPlace(...leftEgress), false);
      assert.equal(attachedTcProgramId(...leftEgress), undefined);
      assert.equal(attachedTcProgramId(...place), other.id);
    } finally {
      for (const { fd } of [nat, other]) closeSync(fd);
    }
  });

  test(`at ${hook}, an interface that went away and came back is another one`, async () => {
    using object = loadBpfObject(protocolCountersObject);
    const make = () =>
      output(left, 'ip', 'link', 'add', 'coming0', 'type', 'veth', 'peer', 'name', 'coming1');
    await make();
    const place = [target(left, 'coming0'), 'ingress', 'counting'] as const;
    const attachment = attachTc(object.programs.countProtocolsTcIngress, ...place, { hook });
    await output(left, 'ip', 'link', 'set', 'coming0', 'name', 'renamed0');
    assert.throws(() => attachedTcProgramId(...place), /find interface coming0: ENODEV/);
    attachment.replace(object.programs.countProtocolsTcIngress);
    await output(left, 'ip', 'link', 'delete', 'renamed0');
    assert.throws(() => attachment.replace(object.programs.countProtocolsTcIngress), /ENODEV/);
    assert.throws(() => attachment.detach(), /detach count_protocols_tc_ingress from coming0.*EN/);
    await make();
    assert.equal(attachedTcProgramId(...place), undefined);
    await output(left, 'ip', 'link', 'delete', 'coming0');
  });
}

test('somebody else is never touched at tcx, and comes behind us', async () => {
  using counters = loadBpfObject(protocolCountersObject);
  const { countProtocolsTcEgress } = counters.programs;
  using strangers = attachStrangers(target(left), 'egress', { verdict: TCX_DROP });
  assert.equal(attachedTcProgramId(...leftEgress), undefined);
  const attachment = attachTc(countProtocolsTcEgress, ...leftEgress);
  await echoFails();
  assert.ok(echoes(counters) > 0);
  assert.equal(clearTcPlace(...leftEgress), true);
  assert.equal(clearTcPlace(...leftEgress), false);
  assert.throws(() => attachment.detach(), /ENOENT/);
  assert.equal(strangers.ids.length, 1);
  await echoFails();
});

test('an interface that has all programs that tcx allows takes no further one, but another in its place', () => {
  using first = loadBpfObject(protocolCountersObject);
  using second = loadBpfObject(protocolCountersObject);
  const { countProtocolsTcEgress } = first.programs;
  {
    using _full = attachStrangers(target(left), 'egress', { count: TCX_PROGRAM_COUNT_MAX });
    assert.throws(
      () => attachTc(countProtocolsTcEgress, ...leftEgress),
      /cannot attach count_protocols_tc_egress to eth0 at tc egress: ERANGE: as many programs/,
    );
    assert.equal(attachedTcProgramId(...leftEgress), undefined);
  }
  const attachment = attachTc(countProtocolsTcEgress, ...leftEgress);
  using _full = attachStrangers(target(left), 'egress', { count: TCX_PROGRAM_COUNT_MAX - 1 });
  attachment.replace(second.programs.countProtocolsTcEgress);
  assert.equal(attachedTcProgramId(...leftEgress), second.programs.countProtocolsTcEgress.id);
  attachment.detach();
});

test('a program that an older Gatehouse left at clsact is replaced there without a gap, until it is cleared', () => {
  using before = loadBpfObject(protocolCountersObject);
  using now = loadBpfObject(protocolCountersObject);
  attachTc(before.programs.countProtocolsTcEgress, ...leftEgress, { hook: 'clsact' });
  const { countProtocolsTcEgress } = now.programs;
  assert.equal(attachTc(countProtocolsTcEgress, ...leftEgress).hook, 'clsact');
  const nat = loadVerdictProgram('nat_wan_egress', TCX_NEXT);
  const place = [target(left), 'egress', 'nat'] as const;
  // Else packets would meet it before what counts.
  assert.equal(attachTc(nat, ...place).hook, 'clsact');
  assert.equal(clearTcPlace(...place), true);
  assert.equal(clearTcPlace(...leftEgress), true);
  const attachment = attachTc(countProtocolsTcEgress, ...leftEgress);
  assert.equal(attachment.hook, 'tcx');
  // One that is at tcx stays there, whatever an older one did beside it.
  attachTc(nat, ...place);
  attachTc(before.programs.countProtocolsTcEgress, ...leftEgress, { hook: 'clsact' });
  assert.equal(attachTc(nat, ...place).hook, 'tcx');
  assert.equal(clearTcPlace(...place), true);
  assert.equal(attachedTcProgramId(...leftEgress), before.programs.countProtocolsTcEgress.id);
  attachTc(countProtocolsTcEgress, ...leftEgress);
  assert.throws(() => attachment.detach(), /ENOENT/);
  assert.equal(attachedTcProgramId(...leftEgress), countProtocolsTcEgress.id);
  assert.equal(clearTcPlace(...leftEgress), true);
  closeSync(nat.fd);
});

test('two of ours in one place at tcx become one', () => {
  using first = loadBpfObject(protocolCountersObject);
  using second = loadBpfObject(protocolCountersObject);
  const { countProtocolsTcEgress } = first.programs;
  using twins = attachStrangers(target(left), 'egress', { name: 'count_protocols', count: 2 });
  assert.equal(attachedTcProgramId(...leftEgress), twins.ids[0]);
  attachTc(countProtocolsTcEgress, ...leftEgress);
  assert.equal(attachedTcProgramId(...leftEgress), countProtocolsTcEgress.id);
  const attachment = attachTc(second.programs.countProtocolsTcEgress, ...leftEgress);
  attachment.detach();
  assert.equal(attachedTcProgramId(...leftEgress), undefined);
});

test('without CAP_SYS_ADMIN, which finding ours at tcx again takes, clsact does it', async () => {
  assert.equal(await attachedBy('-sys_admin'), 'clsact');
  assert.equal(await attachedBy('-sys_admin'), 'clsact');
  assert.equal(clearTcPlace(...leftEgress), true);
  using strangers = attachStrangers(target(left), 'egress');
  assert.equal(
    await attachedBy('-sys_admin'),
    'cannot attach count_protocols_tc_egress to eth0 at tc egress: EPERM: whether program ' +
      `${strangers.ids} there is ours is told with CAP_SYS_ADMIN alone`,
  );
  assert.equal(await attachedBy('-sys_time'), 'tcx');
});

/** Which hook a process takes that lacks a capability, or why it fails. */
function attachedBy(withoutCapability: `-${string}`): Promise<string> {
  return runInProcess(
    `try {
      process.stdout.write(attachTc(loadProgram(), { interface: 'eth0' }, 'egress').hook);
    } catch (error) {
      process.stdout.write(error.message);
    }`,
    ['setpriv', '--bounding-set', withoutCapability],
  );
}

test('processes that exchange and clear a place at once leave one program', async () => {
  const script = `
    const two = [loadProgram(), loadProgram()];
    for (let round = 0; round < 300; round++) {
      attachTc(two[round % 2], { interface: 'eth0' }, 'egress');
      if (round % 7 === 0) clearTcPlace({ interface: 'eth0' }, 'egress', 'counting');
    }
    attachTc(two[0], { interface: 'eth0' }, 'egress');`;
  await Promise.all([1, 2, 3].map(() => runInProcess(script)));
  const ids = inNetworkNamespace(left.namespacePath, () => {
    const index = interfaceIndex('eth0');
    return unlinkedPrograms({ index, direction: 'egress', interface: 'eth0' });
  });
  assert.deepEqual(ids, [attachedTcProgramId(...leftEgress)]);
});

/** In the namespace. @param script knows attachTc, clearTcPlace and loadProgram */
function runInProcess(script: string, prefix: readonly string[] = []): Promise<string> {
  const url = (path: string) => new URL(`../../src/${path}`, import.meta.url).href;
  const urls = ['linux/attach.ts', 'linux/bpf-object.ts', 'abi/protocol-counters.generated.ts'];
  const imports = `
    const [{ attachTc, clearTcPlace }, { loadBpfObject }, { protocolCountersObject }] =
      await Promise.all(process.argv.slice(1).map((url) => import(url)));
    const loadProgram = () => loadBpfObject(protocolCountersObject).programs.countProtocolsTcEgress;
  `;
  const node = [process.execPath, '--input-type=module', '-e', imports + script];
  const [program = '', ...words] = [...prefix, ...node, ...urls.map(url)];
  return output(left, program, ...words);
}

test('a program that belongs to another place is refused before the kernel is asked', () => {
  using object = loadBpfObject(protocolCountersObject);
  assert.throws(
    () => attachTc(object.programs.countProtocolsTcEgress, target(left), 'egress', 'nat'),
    /tc-places\.ts does not name count_protocols_tc_egress for nat/,
  );
});

test('maps of another size are not taken over', () => {
  using before = loadBpfObject(protocolCountersObject, { maxEntries: { protocolCounters: 16 } });
  const attachment = attachTc(before.programs.countProtocolsTcEgress, target(left), 'egress');
  const id = attachedTcProgramId(target(left), 'egress') ?? 0;
  using after = loadBpfObject(protocolCountersObject, { adoptMapsOf: id });
  assert.equal(after.maps.protocolCounters.maxEntries, 8_192);
  attachment.detach();
});

test('an older qdisc in the place of clsact, which would run egress at ingress, is refused', async () => {
  using object = loadBpfObject(protocolCountersObject);
  await output(left, 'tc', 'qdisc', 'delete', 'dev', 'eth0', 'clsact');
  await output(left, 'tc', 'qdisc', 'add', 'dev', 'eth0', 'ingress');
  const { countProtocolsTcEgress } = object.programs;
  assert.throws(
    () => attachTc(countProtocolsTcEgress, ...leftEgress, { hook: 'clsact' }),
    /cannot attach count_protocols_tc_egress to eth0 at tc egress: EBUSY: its qdisc ingress/,
  );
  assert.equal(attachedTcProgramId(target(left), 'ingress'), undefined);
  attachTc(countProtocolsTcEgress, ...leftEgress, { hook: 'tcx' }).detach();
  await output(left, 'tc', 'qdisc', 'delete', 'dev', 'eth0', 'ingress');
});
