/** Meaning of gatekeeper and grantor: encapsulated packets that reach their end. */
import {
  formatIpAddress,
  type IpAddress,
  isSameAddress,
  parseIpAddress,
} from '../net/ip-address.ts';
import { formatPrefix, type Prefix, parsePrefix, prefixHasAddress } from '../net/prefix.ts';
import { formatConfigPath } from './config-path.ts';
import { placed } from './gateway-facts.ts';
import {
  itemsOf,
  type MeaningProblems,
  type Placed,
  repetitionsAmong,
  type SoundConfig,
} from './meaning.ts';

export function judgeShield(config: SoundConfig, problems: MeaningProblems): void {
  judgeGatekeeper(config.gatekeeper, problems);
  judgeGrantor(config.grantor, problems);
}

function judgeGatekeeper(gatekeeper: SoundConfig['gatekeeper'], problems: MeaningProblems): void {
  const items = itemsOf(gatekeeper?.protected, ['gatekeeper', 'protected']);
  const prefixes = items.flatMap(({ path, value }) =>
    placed([...path, 'prefix'], value.prefix, parsePrefix),
  );
  for (const { earlier, later } of repetitionsAmong(prefixes, ({ value }) => formatPrefix(value))) {
    const found = `the one of \`${formatConfigPath(earlier.path)}\``;
    problems.add({ path: later.path, expected: 'a prefix of its own', found });
  }
  const backPath = ['gatekeeper', 'back', 'address'];
  const back = placed(backPath, gatekeeper?.back?.address, parseIpAddress);
  for (const address of back) judgeOutside(address, prefixes, problems);
  for (const { path, value } of items) {
    const [prefix] = placed([...path, 'prefix'], value.prefix, parsePrefix);
    const grantors = itemsOf(value.grantors, [...path, 'grantors']).flatMap((grantor) =>
      placed([...grantor.path, 'address'], grantor.value.address, parseIpAddress),
    );
    judgeRepeated(grantors, problems);
    for (const grantor of grantors) {
      judgeOutside(grantor, prefixes, problems);
      if (prefix !== undefined) judgeFamily(grantor, prefix.value, problems);
    }
    const [source] = back;
    if (prefix === undefined || source === undefined) continue;
    if (source.value.family === prefix.value.family) continue;
    const expected = `a prefix of the family of \`${formatConfigPath(backPath)}\``;
    const found = `one of IPv${prefix.value.family}`;
    problems.add({ path: prefix.path, expected, found });
  }
}

/** A packet to such an address would be taken for one to a protected host, and go round. */
function judgeOutside(
  { path, value }: Placed<IpAddress>,
  prefixes: readonly Placed<Prefix>[],
  problems: MeaningProblems,
): void {
  const around = prefixes.find((prefix) => prefixHasAddress(prefix.value, value));
  if (around === undefined) return;
  const expected = 'an address outside of every protected prefix';
  const found = `${formatIpAddress(value)}, in ${formatPrefix(around.value)}`;
  problems.add({ path, expected, found });
}

/** IPv4 travels in IPv4 and IPv6 in IPv6. */
function judgeFamily(
  { path, value }: Placed<IpAddress>,
  prefix: Prefix,
  problems: MeaningProblems,
): void {
  if (value.family === prefix.family) return;
  const expected = `an IPv${prefix.family} address, as its prefix`;
  problems.add({ path, expected, found: formatIpAddress(value) });
}

function judgeRepeated(addresses: readonly Placed<IpAddress>[], problems: MeaningProblems): void {
  for (const { earlier, later } of repetitionsAmong(addresses, (one) =>
    formatIpAddress(one.value),
  )) {
    const found = `the one of \`${formatConfigPath(earlier.path)}\``;
    problems.add({ path: later.path, expected: 'an address of its own', found });
  }
}

function judgeGrantor(grantor: SoundConfig['grantor'], problems: MeaningProblems): void {
  const [own] = placed(['grantor', 'address'], grantor?.address, parseIpAddress);
  const gatekeepers = itemsOf(grantor?.gatekeepers, ['grantor', 'gatekeepers']).flatMap((item) =>
    placed(item.path, item.value, parseIpAddress),
  );
  judgeRepeated(gatekeepers, problems);
  if (own === undefined) return;
  for (const { path, value } of gatekeepers) {
    const found = formatIpAddress(value);
    if (isSameAddress(own.value, value)) {
      const expected = 'another address than that of the Grantor itself';
      problems.add({ path, expected, found });
    } else if (own.value.family !== value.family) {
      const expected = `an IPv${own.value.family} address, as that of the Grantor`;
      problems.add({ path, expected, found });
    }
  }
}
