import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import type { NftListing } from '../firewall/nft.ts';
import { compileRuleset, type NftDocument } from '../firewall/nft-document.ts';
import { defaultPosture, planRuleset } from '../firewall/plan-ruleset.ts';
import { FakeNft } from '../testing/fake-nft.ts';
import { modelWithRules } from '../testing/firewall-models.ts';
import { protectThenForward } from './nft-default-posture.ts';

const settings = ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding'];

/** A folder in the place of /proc/sys, with forwarding as given. */
function fakeSysctls(initial: '0' | '1') {
  const directory = mkdtempSync(join(tmpdir(), 'gatehouse-sysctl-'));
  for (const setting of settings) {
    mkdirSync(dirname(join(directory, setting)), { recursive: true });
    writeFileSync(join(directory, setting), `${initial}\n`);
  }
  return {
    directory,
    values: () => settings.map((setting) => readFileSync(join(directory, setting), 'utf8').trim()),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

const home = compileRuleset(planRuleset(modelWithRules([])), { replacing: 'rules' });

test('survive-113 forwarding is switched on only after the default posture is in place', async () => {
  using sysctls = fakeSysctls('0');
  const seen: string[][] = [];
  class WatchedNft extends FakeNft {
    override async apply(document: NftDocument) {
      const result = await super.apply(document);
      seen.push(sysctls.values());
      return result;
    }
  }
  const nft = new WatchedNft();
  const result = await protectThenForward({ nft, sysctlDirectory: sysctls.directory });
  assert.deepEqual(result, { success: true, table: 'loaded' });
  assert.deepEqual(nft.applied, [compileRuleset(defaultPosture(), { replacing: 'table' })]);
  assert.deepEqual(seen, [['0', '0']]);
  assert.deepEqual(sysctls.values(), ['1', '1']);
});

test('rules of an earlier run stay, since the kernel went on forwarding by them', async () => {
  using sysctls = fakeSysctls('1');
  const nft = new FakeNft();
  await nft.apply(home);
  const result = await protectThenForward({ nft, sysctlDirectory: sysctls.directory });
  assert.deepEqual(result, { success: true, table: 'kept' });
  assert.deepEqual(nft.applied, [home]);
  assert.deepEqual(sysctls.values(), ['1', '1']);
});

test('survive-106 rules that nft fails to list once stay in place', async () => {
  using sysctls = fakeSysctls('1');
  class FailingOnce extends FakeNft {
    #hasFailed = false;
    override async list(): Promise<NftListing> {
      if (this.#hasFailed) return super.list();
      this.#hasFailed = true;
      const failure = { reason: 'hung', message: 'nft hangs', rulesInPlace: 'unchanged' } as const;
      return { success: false, ...failure };
    }
  }
  const nft = new FailingOnce();
  await nft.apply(home);
  const result = await protectThenForward({ nft, sysctlDirectory: sysctls.directory });
  assert.deepEqual(result, { success: true, table: 'kept' });
  assert.deepEqual(nft.applied, [home]);
  assert.deepEqual(sysctls.values(), ['1', '1']);
});

test('survive-113 a table of our name that refuses nothing is replaced', async () => {
  using sysctls = fakeSysctls('0');
  const nft = new FakeNft();
  nft.changeFromOutside([{ add: { table: { family: 'inet', name: 'gatehouse' } } }]);
  const result = await protectThenForward({ nft, sysctlDirectory: sysctls.directory });
  assert.deepEqual(result, { success: true, table: 'loaded' });
});

test('survive-113 when no rules can be put in place, forwarding is switched off', async () => {
  for (const kind of ['missing', 'crashed', 'hung'] as const) {
    using sysctls = fakeSysctls('1');
    const nft = new FakeNft();
    nft.failWith({ kind });
    const result = await protectThenForward({ nft, sysctlDirectory: sysctls.directory });
    assert.equal(result.success ? undefined : result.failure.reason, kind);
    assert.deepEqual(sysctls.values(), ['0', '0']);
  }
});

test('a kernel without IPv6 is no error, one without IPv4 forwarding is', async () => {
  using sysctls = fakeSysctls('0');
  const [ipv4 = '', ipv6 = ''] = settings.map((setting) => join(sysctls.directory, setting));
  rmSync(ipv6);
  const options = { nft: new FakeNft(), sysctlDirectory: sysctls.directory };
  assert.equal((await protectThenForward(options)).success, true);
  assert.equal(readFileSync(ipv4, 'utf8'), '1');
  rmSync(ipv4);
  await assert.rejects(() => protectThenForward(options), /cannot write '1' to .*ip_forward/);
});
