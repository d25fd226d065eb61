// SPDX-License-Identifier: Apache-2.0
//
// Each filter type against facts, and what is unknown. Policies as files: loader_test.cpp.

#include <gtest/gtest.h>

#include "unit/policy/facts.h"

namespace handshake::policy {
namespace {

using namespace std::string_literals;
using test::anonymous;
using test::ask;
using test::common_name;
using test::name;
using test::organization;
using test::psk_peer;
using test::student;
using test::tags_of;
using test::unit;

PeerFacts with_subject(const std::vector<NameAttribute>& attributes) {
  PeerFacts facts = student();
  facts.certificate->subject = name(attributes);
  return facts;
}

NameAttribute unreadable(std::string oid) { return {std::move(oid), "", false, "\x0C\x01\xFF"}; }

TEST(Filters, SignatureAlgorithmByNameOrOid) {
  EXPECT_EQ(ask("{type: x509.cert.signatureAlgorithm, pattern: ECDSA-*}", student()), "yes");
  EXPECT_EQ(ask("{type: x509.cert.signatureAlgorithm, pattern: 1.2.840.10045.*}", student()),
            "yes");
  EXPECT_EQ(ask("{type: x509.cert.signatureAlgorithm, pattern: RSA-SHA1}", student()), "no");
}

TEST(Filters, Version) {
  EXPECT_EQ(ask("{type: x509.tbs.version, pattern: 3}", student()), "yes");
  EXPECT_EQ(ask("{type: x509.tbs.version, pattern: \"1\"}", student()), "no");
}

TEST(Filters, SerialNumberInAnySpelling) {
  for (const char* pattern : {"00f1a2", "f1a2", "F1:A2", "00:f1:a2", "*a2", "f1??"}) {
    EXPECT_EQ(ask("{type: x509.tbs.serialNumber, pattern: \""s + pattern + "\"}", student()), "yes")
        << pattern;
  }
  EXPECT_EQ(ask("{type: x509.tbs.serialNumber, pattern: \"f1\"}", student()), "no");
}

TEST(Filters, NegativeSerialNumberIsNotThePositiveOne) {
  PeerFacts facts = student();
  facts.certificate->serial_number = "fb";  // -5
  EXPECT_EQ(ask("{type: x509.tbs.serialNumber, pattern: \"05\"}", facts), "no");
  EXPECT_EQ(ask("{type: x509.tbs.serialNumber, pattern: fb}", facts), "yes");
}

TEST(Filters, IssuerAndSubjectAsText) {
  EXPECT_EQ(ask("{type: x509.tbs.issuer, pattern: \"*,O=Monsters University,*\"}", student()),
            "yes");
  EXPECT_EQ(ask("{type: x509.tbs.subject, pattern: \"*,OU=Roar Omega Roar,*\"}", student()), "yes");
  EXPECT_EQ(ask("{type: x509.tbs.subject, pattern: \"*,OU=Oozma Kappa,*\"}", student()), "no");
  EXPECT_EQ(
      ask("{type: x509.tbs.subject, pattern: \"CN=Johnny Worthington,OU=Roar Omega Roar,O=Monsters "
          "University,C=US\"}",
          student()),
      "yes");
}

TEST(Filters, CommaInsideAValueIsNoSeparator) {
  const PeerFacts impostor =
      with_subject({organization("ACME"), common_name("x,OU=Roar Omega Roar,y")});
  EXPECT_EQ(ask("{type: subject, pattern: \"*,OU=Roar Omega Roar,*\"}", impostor), "no");
  EXPECT_EQ(ask("{type: subject, pattern: \"*,OU=Roar Omega Roar*\"}", impostor), "no")
      << "a backslash before the comma would not be enough";
  EXPECT_EQ(ask("{type: subject, pattern: \"*OU=Roar Omega Roar*\"}", impostor), "no");
  EXPECT_EQ(ask("{type: subject, pattern: \"*,O=ACME*\"}", impostor), "yes");
}

TEST(Filters, TimesCompareAsTheManualSays) {
  // Issued 2025-09-01, expires 2026-08-31.
  EXPECT_EQ(ask("{type: x509.tbs.validity.notBefore, pattern: \"2025-09-01 00:00:00\"}", student()),
            "yes");
  EXPECT_EQ(ask("{type: x509.tbs.validity.notBefore, pattern: \"2025-08-31 23:59:59\"}", student()),
            "yes");
  EXPECT_EQ(ask("{type: x509.tbs.validity.notBefore, pattern: \"2025-09-01 00:00:01\"}", student()),
            "no");
  EXPECT_EQ(ask("{type: x509.tbs.validity.notAfter, pattern: \"2026-08-31 00:00:00\"}", student()),
            "yes");
  EXPECT_EQ(ask("{type: x509.tbs.validity.notAfter, pattern: \"2026-08-30 23:59:59\"}", student()),
            "no");
  EXPECT_EQ(ask("{type: notAfter, pattern: \"2026-08-31 01:00:00 +02:00\"}", student()), "no");
}

TEST(Filters, KeyUsageNeedsEveryPurpose) {
  EXPECT_EQ(ask("{type: x509.extension.keyUsage, purpose: [digitalSignature, nonRepudiation]}",
                student()),
            "yes");
  EXPECT_EQ(
      ask("{type: x509.extension.keyUsage, purpose: [digitalSignature, keyCertSign]}", student()),
      "no");
  PeerFacts without = student();
  without.certificate->key_usage_presence = Presence::kAbsent;
  without.certificate->key_usage = 0;
  EXPECT_EQ(ask("{type: x509.extension.keyUsage, purpose: [digitalSignature]}", without), "no");
}

TEST(Filters, ExtendedKeyUsageByNameOrOid) {
  EXPECT_EQ(ask("{type: x509.extension.extendedKeyUsage, purpose: clientAuth}", student()), "yes");
  EXPECT_EQ(ask("{type: extendedKeyUsage, purpose: [clientAuth, 1.3.6.1.4.1.99999.1]}", student()),
            "yes");
  EXPECT_EQ(ask("{type: extendedKeyUsage, purpose: [clientAuth, serverAuth]}", student()), "no");
}

TEST(Filters, FingerprintOfEitherHashInAnySpelling) {
  EXPECT_EQ(
      ask("{type: x509.derived.fingerprint, pattern: \"" + std::string(40, 'a') + "\"}", student()),
      "yes");
  EXPECT_EQ(
      ask("{type: x509.derived.fingerprint, pattern: \"" + std::string(64, 'B') + "\"}", student()),
      "yes");
  EXPECT_EQ(ask("{type: x509.derived.fingerprint, pattern: \"AA:AA*\"}", student()), "yes");
  EXPECT_EQ(
      ask("{type: x509.derived.fingerprint, pattern: \"" + std::string(40, 'b') + "\"}", student()),
      "no");
  EXPECT_EQ(
      ask("{type: x509.derived.fingerprint, pattern: \"" + std::string(64, 'd') + "\"}", student()),
      "no")
      << "that is the issuer's";
}

TEST(Filters, ChainFingerprintOfAnyCertificate) {
  EXPECT_EQ(ask("{type: chain.fingerprint, pattern: \"" + std::string(64, 'd') + "\"}", student()),
            "yes");
  EXPECT_EQ(ask("{type: chain.fingerprint, pattern: \"" + std::string(64, 'b') + "\"}", student()),
            "yes");
  EXPECT_EQ(ask("{type: chain.fingerprint, pattern: \"" + std::string(64, 'e') + "\"}", student()),
            "no");
}

TEST(Filters, SelfSignedMeansSubjectIsIssuer) {
  EXPECT_EQ(ask("{type: x509.derived.selfSigned}", student()), "no");
  PeerFacts facts = student();
  facts.certificate->subject = facts.certificate->issuer;
  EXPECT_EQ(ask("{type: x509.derived.selfSigned}", facts), "yes");
}

TEST(Filters, SingleAttributesCompareAsValues) {
  const PeerFacts facts =
      with_subject({organization("ACME, Inc."), unit("A"), unit("B"), common_name("*")});
  EXPECT_EQ(ask("{type: x509.tbs.subject.O, value: \"ACME, Inc.\"}", facts), "yes");
  EXPECT_EQ(ask("{type: subject.O, value: \"ACME\"}", facts), "no");
  EXPECT_EQ(ask("{type: subject.O, pattern: \"ACME*\"}", facts), "yes");
  EXPECT_EQ(ask("{type: subject.OU, value: B}", facts), "yes") << "one of several is enough";
  EXPECT_EQ(ask("{type: subject.OU, value: [C, B]}", facts), "yes");
  EXPECT_EQ(ask("{type: subject.CN, value: \"*\"}", facts), "yes");
  EXPECT_EQ(ask("{type: subject.O, value: \"*\"}", facts), "no") << "a value has no wildcards";
  EXPECT_EQ(ask("{type: subject.2.5.4.10, value: \"ACME, Inc.\"}", facts), "yes");
  EXPECT_EQ(ask("{type: issuer.O, value: Monsters University}", facts), "yes");
  EXPECT_EQ(ask("{type: subject.L, pattern: \"*\"}", facts), "no") << "it has none";
}

TEST(Filters, AttributeIsComparedBehindANul) {
  const PeerFacts facts = with_subject({common_name("admin\0.evil"s)});
  EXPECT_EQ(ask("{type: subject.CN, value: admin}", facts), "no");
  EXPECT_EQ(ask("{type: subject.CN, pattern: \"admin\"}", facts), "no");
  EXPECT_EQ(ask("{type: subject.CN, value: \"admin\\0.evil\"}", facts), "yes");
}

TEST(Filters, AlternativeNames) {
  EXPECT_EQ(ask("{type: subjectAltName.dns, value: johnny.mu.EXAMPLE}", student()), "yes")
      << "case does not count";
  EXPECT_EQ(ask("{type: subjectAltName.dns, pattern: \"*.mu.example\"}", student()), "yes");
  EXPECT_EQ(ask("{type: subjectAltName.dns, value: pc1.lab.mu.example}", student()), "no")
      << "the certificate's wildcard is not a host";
  EXPECT_EQ(ask("{type: subjectAltName.dns, value: \"*.lab.mu.example\"}", student()), "yes");
  EXPECT_EQ(
      ask("{type: subjectAltName.uri, pattern: \"spiffe://mu.example/student/*\"}", student()),
      "yes");
  EXPECT_EQ(
      ask("{type: subjectAltName.uri, value: \"SPIFFE://mu.example/student/johnny\"}", student()),
      "no");
  EXPECT_EQ(ask("{type: subjectAltName.email, value: \"Johnny@mu.example\"}", student()), "yes");
  EXPECT_EQ(ask("{type: subjectAltName.email, value: \"johnny@mu.example\"}", student()), "no")
      << "the case of a mailbox counts";
  EXPECT_EQ(ask("{type: subjectAltName.ip, network: 192.0.2.0/24}", student()), "yes");
  EXPECT_EQ(ask("{type: subjectAltName.ip, network: [10.0.0.0/8, \"2001:db8::/32\"]}", student()),
            "yes");
  EXPECT_EQ(ask("{type: subjectAltName.ip, network: 10.0.0.0/8}", student()), "no");
}

TEST(Filters, PublicKey) {
  EXPECT_EQ(ask("{type: publicKey.algorithm, value: [ECDSA, Ed25519]}", student()), "yes");
  EXPECT_EQ(ask("{type: publicKey.algorithm, pattern: \"RSA*\"}", student()), "no");
  EXPECT_EQ(ask("{type: publicKey.bits, minimum: 256}", student()), "yes");
  EXPECT_EQ(ask("{type: publicKey.bits, minimum: 257}", student()), "no");
  EXPECT_EQ(ask("{type: publicKey.bits, minimum: 1, maximum: 255}", student()), "no");
}

TEST(Filters, PskIdentityAndPeerAddress) {
  const PeerFacts facts = psk_peer("NVMe1R01 nqn.host nqn.subsystem");
  EXPECT_EQ(ask("{type: psk.identity, pattern: \"NVMe?R01 *\"}", facts), "yes");
  EXPECT_EQ(ask("{type: psk.identity, value: other}", facts), "no");
  EXPECT_EQ(ask("{type: peer.address, network: 198.51.100.0/24}", facts), "yes");
  EXPECT_EQ(ask("{type: peer.address, network: 203.0.113.0/24}", facts), "no");
}

TEST(Filters, WithoutWhatTheyLookAtNeitherTheyNorTheirNegationMatch) {
  for (const char* filter :
       {"{type: subject, pattern: x}", "{type: subject.O, value: x}",
        "{type: notAfter, pattern: 2026-01-01}", "{type: keyUsage, purpose: [cRLSign]}",
        "{type: extendedKeyUsage, purpose: [clientAuth]}",
        "{type: subjectAltName.ip, network: 10.0.0.0/8}", "{type: publicKey.bits, minimum: 1}",
        "{type: selfSigned}", "{type: chain.fingerprint, pattern: \"*\"}"}) {
    EXPECT_EQ(ask(filter, psk_peer("x")), "unknown") << filter;
    EXPECT_EQ(ask("{not: "s + filter + "}", psk_peer("x")), "unknown") << filter;
  }
  EXPECT_EQ(ask("{not: {type: psk.identity, value: x}}", student()), "unknown");
  PeerFacts nowhere = student();
  nowhere.peer_address.reset();
  EXPECT_EQ(ask("{not: {type: peer.address, network: 10.0.0.0/8}}", nowhere), "unknown");
}

TEST(Filters, NothingIsConcludedFromWhatCannotBeRead) {
  PeerFacts facts = with_subject({organization("ACME"), unreadable("2.5.4.11")});
  EXPECT_EQ(ask("{not: {type: subject.OU, value: Contractors}}", facts), "unknown");
  EXPECT_EQ(ask("{not: {type: subject, pattern: \"*OU=Contractors*\"}}", facts), "unknown");
  EXPECT_EQ(ask("{type: subject.O, value: ACME}", facts), "yes");
  EXPECT_EQ(ask("{not: {type: subject.O, value: EMCA}}", facts), "yes");

  facts.certificate->alternative_names.presence = Presence::kUnreadable;
  facts.certificate->alternative_names.dns.clear();
  facts.certificate->alternative_names.ip.clear();
  facts.certificate->key_usage_presence = Presence::kUnreadable;
  facts.certificate->extended_key_usage_presence = Presence::kUnreadable;
  facts.certificate->not_before.reset();
  facts.certificate->public_key_algorithm.clear();
  facts.certificate->public_key_bits = 0;
  for (const char* filter :
       {"{type: subjectAltName.dns, value: x}", "{type: subjectAltName.ip, network: 10.0.0.0/8}",
        "{type: keyUsage, purpose: [cRLSign]}", "{type: extendedKeyUsage, purpose: [serverAuth]}",
        "{type: notBefore, pattern: 2030-01-01}", "{type: publicKey.algorithm, value: RSA}",
        "{type: publicKey.bits, minimum: 1}"}) {
    EXPECT_EQ(ask(filter, facts), "unknown") << filter;
    EXPECT_EQ(ask("{not: "s + filter + "}", facts), "unknown") << filter;
  }
}

TEST(Combinations, AllAnyNot) {
  const std::string yes = "{type: version, pattern: 3}";
  const std::string no = "{type: version, pattern: 1}";
  const std::string unknown = "{type: psk.identity, value: x}";
  const auto all = [](const std::string& a, const std::string& b) {
    return "{all: [" + a + ", " + b + "]}";
  };
  const auto any = [](const std::string& a, const std::string& b) {
    return "{any: [" + a + ", " + b + "]}";
  };
  EXPECT_EQ(ask(all(yes, yes), student()), "yes");
  EXPECT_EQ(ask(all(yes, no), student()), "no");
  EXPECT_EQ(ask(all(unknown, no), student()), "no");
  EXPECT_EQ(ask(all(unknown, yes), student()), "unknown");
  EXPECT_EQ(ask(any(no, yes), student()), "yes");
  EXPECT_EQ(ask(any(no, no), student()), "no");
  EXPECT_EQ(ask(any(unknown, yes), student()), "yes");
  EXPECT_EQ(ask(any(unknown, no), student()), "unknown");
  EXPECT_EQ(ask("{not: " + no + "}", student()), "yes");
  EXPECT_EQ(ask("{not: " + any(no, all(yes, "{not: " + no + "}")) + "}", student()), "no");
}

constexpr std::string_view kNegationOnly = R"(
filters:
  contractors: {type: subject.OU, value: Contractors}
tags:
  staff: {filter: [not contractors]}
)";

TEST(Tags, NegationsAloneGiveNothingToWhoProvedNothing) {
  EXPECT_EQ(tags_of(std::string(kNegationOnly), student()), "staff");
  EXPECT_EQ(tags_of(std::string(kNegationOnly), anonymous()), "");
  EXPECT_EQ(tags_of(std::string(kNegationOnly), psk_peer("x")), "")
      << "a PSK says nothing of an OU";
  PeerFacts unproved = student();
  unproved.identity_proved = false;
  EXPECT_EQ(tags_of(std::string(kNegationOnly), unproved), "");
}

TEST(Tags, ComeInTheOrderOfTheirDefinition) {
  const std::string policy = R"(
tags:
  zebra: {filter: [any-version]}
  ant: {filter: [any-version]}
  never: {filter: [any-version, not any-version]}
  middle: {filter: [any-version]}
filters:
  any-version: {type: version, pattern: "*"}
)";
  EXPECT_EQ(tags_of(policy, student()), "zebra ant middle");
}

TEST(Evaluation, GivesNoTagsWhenTheCertificateIsTooLargeForThePolicy) {
  PeerFacts facts = student();
  for (int i = 0; i < 10'000; ++i) {
    facts.certificate->alternative_names.dns.push_back("host-" + std::to_string(i) +
                                                       std::string(500, 'a'));
  }
  std::string policy =
      "tags:\n  first: {filter: [{type: version, pattern: 3}]}\n  second: {filter: [{any: [";
  for (int i = 0; i < 2000; ++i) {
    policy += (i > 0 ? ", " : "") +
              ("{type: subjectAltName.dns, pattern: \"h*?aa*x" + std::to_string(i) + "\"}");
  }
  policy += "]}]}\nrules:\n  - {name: r, require-none: [second]}\n";
  const Policy::Loaded loaded = test::load(policy);
  ASSERT_TRUE(loaded.policy) << test::problems_of(loaded);
  const Outcome outcome = loaded.policy->evaluate(facts);
  EXPECT_TRUE(outcome.exhausted);
  EXPECT_TRUE(outcome.tags.empty()) << "not even those found before";
  EXPECT_EQ(outcome.verdict.kind, Verdict::Kind::kDeny);
  EXPECT_EQ(outcome.verdict.reason, "the peer's certificate is too large to be evaluated");
}

TEST(Evaluation, LooksAtEachDistinctFilterOnce) {
  const Policy::Loaded loaded = test::load(R"(
filters:
  a: {type: subject.O, value: ACME}
  b: {type: subject.O, value: ACME}
  c: {all: [a, not b]}
tags:
  t: {filter: [a, b, {type: subject.O, value: ACME}, not c, not a]}
)");
  ASSERT_TRUE(loaded.policy) << test::problems_of(loaded);
  EXPECT_EQ(loaded.policy->definitions().filters.size(), 3U) << "the value, its negation, and c";
  EXPECT_EQ(loaded.policy->definitions().fields.size(), 1U);
}

}  // namespace
}  // namespace handshake::policy
