// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "policy/address.h"
#include "policy/distinguished_name.h"
#include "policy/purposes.h"
#include "policy/time.h"
#include "unit/policy/facts.h"

namespace handshake::policy {
namespace {

using namespace std::string_literals;
using test::attribute;
using test::common_name;
using test::country;
using test::name;
using test::organization;
using test::unit;

std::string network_problem(const std::string& text) {
  std::string problem;
  EXPECT_EQ(Network::parse(text, problem), std::nullopt) << text;
  return problem;
}
bool contains(const std::string& network, const std::string& address) {
  std::string problem;
  const auto parsed = Network::parse(network, problem);
  EXPECT_TRUE(parsed) << problem;
  return parsed && parsed->contains(*IpAddress::parse(address));
}

TEST(Network, ContainsWhatSharesItsPrefix) {
  EXPECT_TRUE(contains("192.0.2.0/24", "192.0.2.255"));
  EXPECT_FALSE(contains("192.0.2.0/24", "192.0.3.0"));
  EXPECT_TRUE(contains("192.0.2.128/25", "192.0.2.200"));
  EXPECT_FALSE(contains("192.0.2.128/25", "192.0.2.127"));
  EXPECT_TRUE(contains("0.0.0.0/0", "8.8.8.8"));
  EXPECT_TRUE(contains("192.0.2.7", "192.0.2.7"));
  EXPECT_FALSE(contains("192.0.2.7", "192.0.2.6"));
  EXPECT_TRUE(contains("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(contains("2001:db8::/33", "2001:db8:8000::1"));
}

TEST(Network, KeepsTheFamiliesApart) {
  EXPECT_FALSE(contains("::/0", "192.0.2.1"));
  EXPECT_FALSE(contains("0.0.0.0/0", "2001:db8::1"));
  EXPECT_TRUE(contains("192.0.2.0/24", "::ffff:192.0.2.1"))
      << "that is how an IPv6 socket calls an IPv4 peer";
}

TEST(Network, SaysWhatIsWrong) {
  EXPECT_NE(network_problem("192.0.2.0/33").find("0 to 32"), std::string::npos);
  EXPECT_NE(network_problem("2001:db8::/129").find("0 to 128"), std::string::npos);
  EXPECT_NE(network_problem("192.0.2.7/24").find("192.0.2.0/24"), std::string::npos);
  EXPECT_NE(network_problem("192.0.2").find("not an address"), std::string::npos);
  EXPECT_NE(network_problem("192.0.2.0/").find("0 to 32"), std::string::npos);
  EXPECT_NE(network_problem("192.0.2.0/-1").find("0 to 32"), std::string::npos);
  EXPECT_NE(network_problem("192.0.2.1\0"s).find("not an address"), std::string::npos);
}

TEST(IpAddress, DropsTheZone) {
  EXPECT_EQ(IpAddress::parse("fe80::1%eth0"), IpAddress::parse("fe80::1"));
  EXPECT_EQ(IpAddress::parse("fe80::1%eth0")->text(), "fe80::1");
}

TEST(IpAddress, HasFourOrSixteenBytes) {
  const std::array<std::uint8_t, 16> bytes{1, 2, 3, 4, 5};
  EXPECT_EQ(IpAddress::from_bytes(std::span(bytes).first(4))->text(), "1.2.3.4");
  EXPECT_FALSE(IpAddress::from_bytes(std::span(bytes).first(5)));
  EXPECT_FALSE(IpAddress::from_bytes({}));
  EXPECT_TRUE(IpAddress::from_bytes(bytes));
}

TEST(Time, IsUtcUnlessItSaysOtherwise) {
  const auto noon = test::day(2026, 1, 31) + std::chrono::hours{12};
  for (const char* text :
       {"2026-01-31 12:00:00", "2026-01-31T12:00:00Z", "2026-01-31 12:00:00 UTC",
        "2026-01-31 12:00:00 GMT", "2026-01-31 13:00:00 +01:00", "2026-01-31T07:00:00-0500",
        "2026-1-31 12:0:0", "  2026-01-31   12:00:00  "}) {
    EXPECT_EQ(parse_time(text), noon) << text;
  }
  EXPECT_EQ(parse_time("2026-01-31"), test::day(2026, 1, 31));
}

TEST(Time, RefusesWhatIsNoDate) {
  for (const char* text :
       {"", "yesterday", "2026-02-30", "2026-13-01", "2026-01-31 24:00:00", "2026-01-31 12:00",
        "2026-01-31 12:00:00 EST", "2026-01-31 12:00:00 junk", "2026-01-31 12:00:00 +25:00",
        "31.01.2026", "2026/01/31"}) {
    EXPECT_EQ(parse_time(text), std::nullopt) << text;
  }
}

TEST(Time, PrintsWhatItReads) {
  EXPECT_EQ(time_text(*parse_time("1969-12-31 23:59:59")), "1969-12-31 23:59:59 UTC");
  EXPECT_EQ(time_text(*parse_time("9999-12-31 00:00:00")), "9999-12-31 00:00:00 UTC");
}

TEST(NameText, IsRfc4514MostSpecificFirst) {
  EXPECT_EQ(
      name_text(name({country("US"), organization("Monsters University"), common_name("Mike")})),
      "CN=Mike,O=Monsters University,C=US");
  EXPECT_EQ(name_text({}), "");
  EXPECT_EQ(name_text({{common_name("Mike"), unit("Oozma Kappa")}}), "CN=Mike+OU=Oozma Kappa");
}

TEST(NameText, EscapesSeparatorsInValuesWithoutWritingThem) {
  EXPECT_EQ(name_text(name({common_name("x,O=Admins")})), "CN=x\\2CO\\3DAdmins");
  EXPECT_EQ(name_text(name({common_name("a+b\"c\\d<e>f;g")})),
            "CN=a\\2Bb\\22c\\5Cd\\3Ce\\3Ef\\3Bg");
  EXPECT_EQ(name_text(name({common_name("*?")})), "CN=\\2A\\3F");
  EXPECT_EQ(name_text(name({common_name(" a b ")})), "CN=\\20a b\\20");
  EXPECT_EQ(name_text(name({common_name("#a#")})), "CN=\\23a#");
  EXPECT_EQ(name_text(name({common_name("a\0\n\x7F"s)})), "CN=a\\00\\0A\\7F");
  EXPECT_EQ(name_text(name({common_name("M\xC3\xBCller")})), "CN=M\xC3\xBCller");
}

TEST(NameText, WritesWhatItCannotReadAsDer) {
  NameAttribute broken{"2.5.4.11", "", false, "\x0C\x02\xFF\xFE"};
  EXPECT_EQ(name_text(name({common_name("x"), broken})), "OU=#0c02fffe,CN=x");
  EXPECT_EQ(name_text(name({attribute("2.5.4.97", "id")})), "2.5.4.97=#0c026964");
}

TEST(NamePattern, TakesEveryWayToWriteAnEscape) {
  for (const char* pattern : {"*,O=ACME\\, Inc.,*", "*,O=ACME\\2C Inc.,*", "*,O=ACME\\2c Inc.,*"}) {
    EXPECT_EQ(name_pattern(pattern), "*,O=ACME\\2C Inc.,*");
  }
  EXPECT_EQ(name_pattern("CN=\\41\\C3\\BC"), "CN=A\xC3\xBC") << "what needs no escape gets none";
  EXPECT_EQ(name_pattern("CN=a\\20b"), "CN=a b");
  EXPECT_EQ(name_pattern("CN=\\ a\\ ,C=US"), "CN=\\20a\\20,C=US");
  EXPECT_EQ(name_pattern("CN= a ,C=US"), "CN=\\20a\\20,C=US");
  EXPECT_EQ(name_pattern("CN=\\#1"), "CN=\\231");
  EXPECT_EQ(name_pattern("2.5.4.97=#0c02*"), "2.5.4.97=#0c02*")
      << "not an escape: the value in DER";
  EXPECT_EQ(name_pattern("CN=\"x\""), "CN=\\22x\\22");
  EXPECT_EQ(name_pattern("CN=a\\"), "CN=a\\5C");
  EXPECT_EQ(name_pattern("CN=a\\*b*"), "CN=a\\2Ab*");
}

TEST(NamePattern, KnowsWhichEqualsSignsBelongToAValue) {
  EXPECT_EQ(name_pattern("*,UID=dXNlcg==,*"), "*,UID=dXNlcg\\3D\\3D,*");
  EXPECT_EQ(name_pattern("*O=Admins*,OU=x"), "*O=Admins*,OU=x");
  EXPECT_EQ(name_pattern("CN=a+OU=b"), "CN=a+OU=b");
}

TEST(NamePattern, MatchesTheTextOfTheSameName) {
  const DistinguishedName acme =
      name({country("US"), organization("ACME, Inc."), common_name(" =a+b; ")});
  WorkBudget budget(100'000);
  EXPECT_TRUE(Pattern::wildcard(name_pattern("CN=\\ \\=a\\+b\\;\\ ,O=ACME\\, Inc.,C=US"))
                  .matches(Text(name_text(acme)), budget));
}

TEST(AttributeOid, IsKnownByNameAndAlias) {
  EXPECT_EQ(attribute_oid("O"), "2.5.4.10");
  EXPECT_EQ(attribute_oid("ou"), "2.5.4.11");
  EXPECT_EQ(attribute_oid("emailAddress"), "1.2.840.113549.1.9.1");
  EXPECT_EQ(attribute_oid("EMAIL"), "1.2.840.113549.1.9.1");
  EXPECT_EQ(attribute_oid("organizationIdentifier"), "2.5.4.97");
  EXPECT_EQ(attribute_oid("1.2.3.4"), "1.2.3.4");
  for (const char* text : {"", "Organisation", "1", "1.", "3.1", "1..2", "1.2.", "1.x"}) {
    EXPECT_EQ(attribute_oid(text), std::nullopt) << text;
  }
}

TEST(KeyUsage, HasTheNamesOfRfc5280) {
  EXPECT_EQ(key_usage_of("digitalSignature"), KeyUsage::kDigitalSignature);
  EXPECT_EQ(key_usage_of("decipherOnly"), KeyUsage::kDecipherOnly);
  EXPECT_EQ(key_usage_of("digitalsignature"), std::nullopt);
  EXPECT_EQ(key_usage_text(0), "none");
  EXPECT_EQ(key_usage_text(0x101), "digitalSignature, decipherOnly");
}

}  // namespace
}  // namespace handshake::policy
