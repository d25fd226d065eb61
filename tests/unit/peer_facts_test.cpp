// SPDX-License-Identifier: Apache-2.0
//
// Certificates, ordinary and hostile, become facts; and what filters then make of them.

#include "tls/peer_facts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "policy/distinguished_name.h"
#include "policy/policy.h"
#include "support/der.h"
#include "support/pki.h"

namespace handshake::tls {
namespace {

using namespace std::string_literals;
using policy::Presence;
using test_der::attribute;
using test_der::bit_string;
using test_der::Certificate;
using test_der::extension;
using test_der::sequence;
using test_der::tlv;
using test_der::utf8_string;

constexpr std::string_view kCommonName = "2.5.4.3";
constexpr std::string_view kUnit = "2.5.4.11";
constexpr std::string_view kKeyUsage = "2.5.29.15";
constexpr std::string_view kSubjectAltName = "2.5.29.17";
constexpr std::string_view kExtendedKeyUsage = "2.5.29.37";

std::string dns(std::string_view name) { return tlv(0x82, name); }
std::string email(std::string_view name) { return tlv(0x81, name); }
std::string uri(std::string_view name) { return tlv(0x86, name); }
std::string ip(std::string_view octets) { return tlv(0x87, octets); }

policy::PeerFacts facts_of(const Certificate& certificate) {
  auto facts = read_peer_facts({"test.der", certificate.der()});
  EXPECT_TRUE(facts) << facts.error().detail;
  return facts ? *facts : policy::PeerFacts{};
}
policy::CertificateFacts certificate_of(const Certificate& certificate) {
  const policy::PeerFacts facts = facts_of(certificate);
  return facts.certificate.value_or(policy::CertificateFacts{});
}
policy::CertificateFacts with_subject(const std::string& subject) {
  Certificate certificate;
  certificate.subject = subject;
  return certificate_of(certificate);
}
policy::CertificateFacts with_extensions(const std::string& extensions) {
  Certificate certificate;
  certificate.extensions = extensions;
  return certificate_of(certificate);
}

/// "yes", "no" or "unknown".
std::string ask(const std::string& filter, const policy::PeerFacts& facts) {
  const std::vector<policy::PolicyText> texts{{"policy.yaml", "filters: {f: " + filter + "}\n"}};
  const policy::Policy::Loaded loaded = policy::Policy::load(texts);
  if (!loaded.policy) return loaded.problems.front().text();
  policy::Evaluator evaluator(loaded.policy->definitions(), facts);
  switch (evaluator.answer(loaded.policy->definitions().names.front().filter)) {
    case policy::Answer::kNo: return "no";
    case policy::Answer::kYes: return "yes";
    case policy::Answer::kUnknown: return "unknown";
  }
  return "";
}

class Stopwatch {
 public:
  [[nodiscard]] std::chrono::milliseconds elapsed() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                                 start_);
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

TEST(PeerFacts, OfAnOrdinaryCertificate) {
  const test_pki::Authority root("Root");
  const test_pki::Authority middle = root.intermediate("Middle");
  test_pki::LeafOptions options;
  options.common_name = "node-1";
  options.dns_names = {"node-1.example"};
  options.ip_addresses = {"192.0.2.7", "2001:db8::7"};
  options.usage = test_pki::Usage::kClient;
  const test_pki::Issued issued = middle.issue(options);
  const auto read =
      read_peer_facts({"leaf", issued.certificate_pem},
                      {{"middle", middle.certificate_pem()}, {"root", root.certificate_der()}});
  ASSERT_TRUE(read) << read.error().detail;
  EXPECT_TRUE(read->identity_proved);
  ASSERT_TRUE(read->certificate);
  const policy::CertificateFacts& facts = *read->certificate;
  EXPECT_EQ(facts.version, 3);
  EXPECT_EQ(policy::name_text(facts.subject), "CN=node-1,O=handshaked tests");
  EXPECT_EQ(policy::name_text(facts.issuer), "CN=Middle,O=handshaked tests");
  EXPECT_EQ(facts.signature_algorithm, "ECDSA-SHA256");
  EXPECT_EQ(facts.signature_algorithm_oid, "1.2.840.10045.4.3.2");
  EXPECT_EQ(facts.public_key_algorithm, "ECDSA");
  EXPECT_EQ(facts.public_key_bits, 256U);
  EXPECT_EQ(facts.key_usage, policy::key_usage_bit(policy::KeyUsage::kDigitalSignature));
  EXPECT_EQ(facts.extended_key_usage, std::vector<std::string>{"1.3.6.1.5.5.7.3.2"});
  EXPECT_EQ(facts.alternative_names.dns, std::vector<std::string>{"node-1.example"});
  ASSERT_EQ(facts.alternative_names.ip.size(), 2U);
  EXPECT_EQ(facts.alternative_names.ip[1].text(), "2001:db8::7");
  EXPECT_LT(*facts.not_before, std::chrono::system_clock::now());
  EXPECT_GT(*facts.not_after, std::chrono::system_clock::now());
  EXPECT_EQ(facts.fingerprint.sha1.size(), 40U);
  EXPECT_EQ(facts.fingerprint.sha256.size(), 64U);
  ASSERT_EQ(read->chain.size(), 3U);
  EXPECT_EQ(read->chain[0].sha256, facts.fingerprint.sha256);
  EXPECT_NE(read->chain[2].sha256, read->chain[1].sha256);
}

TEST(PeerFacts, KnowsTheAlgorithmsOfKeysAndSignatures) {
  const auto read = [](test_pki::KeyType ca, test_pki::KeyType leaf) {
    test_pki::LeafOptions options;
    options.key_type = leaf;
    return *read_peer_facts({"leaf", test_pki::Authority("CA", ca).issue(options).certificate_der})
                ->certificate;
  };
  const auto rsa = read(test_pki::KeyType::kEd25519, test_pki::KeyType::kRsa2048);
  EXPECT_EQ(rsa.public_key_algorithm, "RSA");
  EXPECT_EQ(rsa.public_key_bits, 2048U);
  EXPECT_EQ(rsa.signature_algorithm, "EdDSA-Ed25519");
  const auto ed25519 = read(test_pki::KeyType::kRsa2048, test_pki::KeyType::kEd25519);
  EXPECT_EQ(ed25519.public_key_algorithm, "Ed25519");
  EXPECT_EQ(ed25519.signature_algorithm, "RSA-SHA256");
}

TEST(PeerFacts, NamesTheFileThatCannotBeRead) {
  const auto garbage = read_peer_facts({"/tmp/garbage.pem", "garbage"});
  ASSERT_FALSE(garbage);
  EXPECT_EQ(garbage.error().detail, "/tmp/garbage.pem: neither PEM nor DER");
  const auto chain = read_peer_facts({"leaf", Certificate().der()}, {{"chain.pem", ""}});
  ASSERT_FALSE(chain);
  EXPECT_EQ(chain.error().detail, "chain.pem: the file is empty");
}

TEST(PeerFacts, SerialNumberKeepsItsSignAndItsOctets) {
  const auto serial = [](const std::string& octets) {
    Certificate certificate;
    certificate.serial_number = octets;
    return certificate_of(certificate).serial_number;
  };
  EXPECT_EQ(serial("\x01"), "01");
  EXPECT_EQ(serial("\0\xF1\xA2"s), "00f1a2");
  EXPECT_EQ(serial("\xFB"), "fb") << "minus five";
  EXPECT_EQ(serial("\xFF\x05"s), "ff05");
  EXPECT_EQ(serial("\x00"s), "00");
  EXPECT_EQ(serial(std::string(2000, '\x7F')).size(), 4000U);
}

TEST(PeerFacts, ValuesOfAllStringTypesAreTheSameText) {
  const auto value = [](unsigned char tag, const std::string& content) {
    return with_subject(attribute(kCommonName, tlv(tag, content))).subject.at(0).at(0).value;
  };
  EXPECT_EQ(value(0x0C, "ACME"), "ACME");
  EXPECT_EQ(value(0x13, "ACME"), "ACME");
  EXPECT_EQ(value(0x1E, "\0A\0C\0M\0E"s), "ACME");
}

TEST(PeerFacts, AWrongStringIsRefusedByTheLibraryOrUnreadable) {
  Certificate certificate;
  certificate.subject = attribute(kCommonName, utf8_string("M\xFCller"));
  EXPECT_FALSE(read_peer_facts({"test.der", certificate.der()}));
  const auto readable = [](unsigned char tag, const std::string& content) {
    return with_subject(attribute(kCommonName, tlv(tag, content))).subject.at(0).at(0).readable;
  };
  EXPECT_FALSE(readable(0x13, "M\xFCller"));
  EXPECT_FALSE(readable(0x03, "\0\x01"s)) << "a bit string is not text";
  EXPECT_FALSE(readable(0x30, utf8_string("x"))) << "nor is a sequence";
}

TEST(PeerFacts, KeepsTheStructureOfANameAndItsDuplicates) {
  const auto pair = [](std::string_view type, std::string_view text) {
    return sequence(test_der::oid(type) + utf8_string(text));
  };
  const policy::CertificateFacts facts =
      with_subject(attribute(kUnit, utf8_string("a")) + attribute(kUnit, utf8_string("b")) +
                   test_der::set(pair(kCommonName, "c") + pair(kUnit, "d")));
  ASSERT_EQ(facts.subject.size(), 3U);
  EXPECT_EQ(facts.subject[2].size(), 2U);
  EXPECT_EQ(policy::name_text(facts.subject), "CN=c+OU=d,OU=b,OU=a");
}

TEST(PeerFacts, ANulEndsNothing) {
  const std::string evil = "admin\0.evil.example"s;
  Certificate certificate;
  certificate.subject = attribute(kCommonName, utf8_string(evil));
  certificate.extensions = extension(
      kSubjectAltName, sequence(dns("good.example\0.evil.example"s) +
                                email("root@good.example\0x"s) + uri("spiffe://good\0/evil"s)));
  const policy::PeerFacts facts = facts_of(certificate);
  EXPECT_EQ(facts.certificate->subject.at(0).at(0).value, evil);
  EXPECT_EQ(ask("{type: subject.CN, value: admin}", facts), "no");
  EXPECT_EQ(ask("{type: subject.CN, pattern: admin}", facts), "no");
  EXPECT_EQ(ask("{type: subject, pattern: CN=admin}", facts), "no");
  EXPECT_EQ(ask("{type: subjectAltName.dns, value: good.example}", facts), "no");
  EXPECT_EQ(ask("{type: subjectAltName.dns, pattern: \"*good.example\"}", facts), "no");
  EXPECT_EQ(ask("{type: subjectAltName.dns, pattern: \"*.evil.example\"}", facts), "yes");
  EXPECT_EQ(ask("{type: subjectAltName.email, value: root@good.example}", facts), "no");
  EXPECT_EQ(ask("{type: subjectAltName.uri, value: \"spiffe://good\"}", facts), "no");
}

TEST(PeerFacts, AttributeOfAnUndecodableValueIsUnknown) {
  Certificate certificate;
  certificate.subject = attribute(kUnit, test_der::printable_string("Contractors\xFF")) +
                        attribute(kCommonName, utf8_string("x"));
  const policy::PeerFacts facts = facts_of(certificate);
  EXPECT_EQ(ask("{not: {type: subject.OU, value: Contractors}}", facts), "unknown");
  EXPECT_EQ(ask("{type: subject.CN, value: x}", facts), "yes");
  EXPECT_EQ(policy::name_text(facts.certificate->subject), "CN=x,OU=#130c436f6e74726163746f7273ff");
}

TEST(PeerFacts, KeyUsageHasNineBits) {
  const policy::CertificateFacts facts =
      with_extensions(extension(kKeyUsage, bit_string("\x80\x80"s, 7)));
  EXPECT_EQ(facts.key_usage_presence, Presence::kPresent);
  EXPECT_EQ(facts.key_usage, policy::key_usage_bit(policy::KeyUsage::kDigitalSignature) |
                                 policy::key_usage_bit(policy::KeyUsage::kDecipherOnly));
  EXPECT_EQ(with_extensions("").key_usage_presence, Presence::kAbsent);
}

TEST(PeerFacts, ExtensionsThatAreMalformedOrStandTwiceAreUnreadable) {
  const std::string usage = extension(kKeyUsage, bit_string("\x80"s, 7));
  EXPECT_EQ(with_extensions(usage + usage).key_usage_presence, Presence::kUnreadable);
  EXPECT_EQ(with_extensions(extension(kKeyUsage, "junk")).key_usage_presence,
            Presence::kUnreadable);
  EXPECT_EQ(with_extensions(extension(kExtendedKeyUsage, "junk")).extended_key_usage_presence,
            Presence::kUnreadable);
  EXPECT_EQ(with_extensions(extension(kSubjectAltName, "\x30\x80"s)).alternative_names.presence,
            Presence::kUnreadable);
  const std::string names = extension(kSubjectAltName, sequence(dns("a.example")));
  const policy::AlternativeNames twice = with_extensions(names + names).alternative_names;
  EXPECT_EQ(twice.presence, Presence::kUnreadable);
  EXPECT_TRUE(twice.dns.empty());
}

TEST(PeerFacts, AlternativeNamesThatAreMalformedSpoilOnlyTheConclusions) {
  const policy::AlternativeNames names =
      with_extensions(extension(kSubjectAltName,
                                sequence(ip("\x0A\0\0\1"s) + ip("\x0A\0\0"s) + dns("caf\xE9"))))
          .alternative_names;
  EXPECT_EQ(names.presence, Presence::kUnreadable);
  ASSERT_EQ(names.ip.size(), 1U);
  EXPECT_EQ(names.ip[0].text(), "10.0.0.1");
  EXPECT_EQ(names.dns, std::vector<std::string>{"caf\xE9"});
}

TEST(PeerFacts, DatesThatAreNoneAreUnreadable) {
  Certificate certificate;
  certificate.not_before = test_der::utc_time("250231000000Z");
  certificate.not_after = tlv(0x18, "99991231235959Z");
  const policy::CertificateFacts facts = certificate_of(certificate);
  EXPECT_EQ(facts.not_before, std::nullopt);
  ASSERT_TRUE(facts.not_after);
  EXPECT_EQ(facts.not_after->time_since_epoch().count(), 253402300799);
}

TEST(PeerFacts, KeyOfAnUnknownKindIsUnknown) {
  Certificate certificate;
  certificate.public_key = sequence(sequence(test_der::oid("1.2.3.4")) + bit_string("key"));
  certificate.algorithm = sequence(test_der::oid("1.2.3.5"));
  const policy::PeerFacts facts = facts_of(certificate);
  EXPECT_EQ(facts.certificate->public_key_algorithm, "");
  EXPECT_EQ(facts.certificate->signature_algorithm, "");
  EXPECT_EQ(facts.certificate->signature_algorithm_oid, "1.2.3.5");
  EXPECT_EQ(ask("{type: signatureAlgorithm, pattern: 1.2.3.5}", facts), "yes");
  EXPECT_EQ(ask("{not: {type: publicKey.algorithm, value: RSA}}", facts), "unknown");
}

/// Slow machines and sanitizers are allowed for; what is quadratic takes minutes.
constexpr std::chrono::seconds kBounded{10};

TEST(PeerFacts, TenThousandNamesTakeBoundedTime) {
  std::string names;
  for (int i = 0; i < 10'000; ++i) names += dns("host-" + std::to_string(i) + ".example");
  Certificate certificate;
  certificate.extensions = extension(kSubjectAltName, sequence(names));
  std::string policy = "tags:\n";
  for (int i = 0; i < 2000; ++i) {
    policy += "  t" + std::to_string(i) + ": {filter: [{type: subjectAltName.dns, pattern: \"*-" +
              std::to_string(i) + "?example*x\"}]}\n";
  }
  const std::vector<policy::PolicyText> texts{{"policy.yaml", policy}};
  const auto loaded = policy::Policy::load(texts);
  ASSERT_TRUE(loaded.policy);

  const Stopwatch stopwatch;
  const policy::PeerFacts facts = facts_of(certificate);
  EXPECT_EQ(facts.certificate->alternative_names.dns.size(), 10'000U);
  EXPECT_TRUE(loaded.policy->evaluate(facts).tags.empty());
  EXPECT_LT(stopwatch.elapsed(), kBounded);
}

TEST(PeerFacts, AMebibyteOfAnythingTakesBoundedTime) {
  const std::string mebibyte(std::size_t{1} << 20U, 'a');
  std::string purposes;
  while (purposes.size() < mebibyte.size()) purposes += test_der::oid("1.3.6.1.5.5.7.3.1");
  std::string units;
  while (units.size() < mebibyte.size() / 2) units += attribute(kUnit, utf8_string("unit"));
  std::string long_oid = mebibyte;
  for (char& c : long_oid) c = '\xFF';
  long_oid.back() = '\x01';

  const Stopwatch stopwatch;
  EXPECT_EQ(with_extensions(extension("1.2.3.4", mebibyte)).alternative_names.presence,
            Presence::kAbsent);
  EXPECT_EQ(with_extensions(extension(kSubjectAltName, sequence(uri(mebibyte))))
                .alternative_names.uri.at(0),
            mebibyte);
  EXPECT_EQ(with_extensions(extension(kSubjectAltName, mebibyte)).alternative_names.presence,
            Presence::kUnreadable);
  EXPECT_GT(
      with_extensions(extension(kExtendedKeyUsage, sequence(purposes))).extended_key_usage.size(),
      100'000U);
  EXPECT_EQ(with_extensions(extension(kExtendedKeyUsage, sequence(tlv(0x06, long_oid))))
                .extended_key_usage_presence,
            Presence::kUnreadable)
      << "turning that number into digits would take hours";
  EXPECT_GT(with_subject(units).subject.size(), 20'000U);
  EXPECT_EQ(with_subject(attribute(kCommonName, utf8_string(mebibyte.substr(0, 1'000'000))))
                .subject.at(0)
                .at(0)
                .value.size(),
            1'000'000U);
  EXPECT_LT(stopwatch.elapsed(), kBounded);
}

}  // namespace
}  // namespace handshake::tls
