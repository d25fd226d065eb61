// SPDX-License-Identifier: Apache-2.0
#include "tls/asn1_text.h"

#include <gtest/gtest.h>

#include <memory>

namespace handshake::tls {
namespace {

using namespace std::string_literals;

using StringPtr = std::unique_ptr<ASN1_STRING, Deleter<ASN1_STRING_free>>;

StringPtr make(int type, const std::string& content) {
  StringPtr string(ASN1_STRING_type_new(type));
  EXPECT_EQ(ASN1_STRING_set(string.get(), content.data(), static_cast<int>(content.size())), 1);
  return string;
}
std::optional<std::string> text(int type, const std::string& content) {
  return utf8_text(make(type, content).get());
}

TEST(Asn1Text, IsUtf8WhateverTheType) {
  EXPECT_EQ(text(V_ASN1_UTF8STRING, "M\xC3\xBCller"), "M\xC3\xBCller");
  EXPECT_EQ(text(V_ASN1_PRINTABLESTRING, "Mueller"), "Mueller");
  EXPECT_EQ(text(V_ASN1_IA5STRING, "mueller@example"), "mueller@example");
  EXPECT_EQ(text(V_ASN1_NUMERICSTRING, "42"), "42");
  EXPECT_EQ(text(V_ASN1_T61STRING, "M\xFCller"), "M\xC3\xBCller");
  EXPECT_EQ(text(V_ASN1_BMPSTRING, "\0M\0\xFC\x20\xAC"s), "M\xC3\xBC\xE2\x82\xAC");
  EXPECT_EQ(text(V_ASN1_BMPSTRING, "\xD8\x3D\xDC\x7E"s), "\xF0\x9F\x91\xBE") << "a surrogate pair";
  EXPECT_EQ(text(V_ASN1_UNIVERSALSTRING, "\0\0\0\xFC\0\1\xF4\x7E"s), "\xC3\xBC\xF0\x9F\x91\xBE");
  EXPECT_EQ(text(V_ASN1_UTF8STRING, ""), "");
}

TEST(Asn1Text, KeepsANul) {
  EXPECT_EQ(text(V_ASN1_UTF8STRING, "a\0b"s), "a\0b"s);
  EXPECT_EQ(text(V_ASN1_IA5STRING, "a\0b"s), "a\0b"s);
  EXPECT_EQ(text(V_ASN1_BMPSTRING, "\0a\0\0\0b"s), "a\0b"s);
}

TEST(Asn1Text, IsNothingWhenItIsNotValid) {
  EXPECT_EQ(text(V_ASN1_UTF8STRING, "M\xFCller"), std::nullopt);
  EXPECT_EQ(text(V_ASN1_UTF8STRING, "\xC0\x80"), std::nullopt) << "an overlong NUL";
  EXPECT_EQ(text(V_ASN1_UTF8STRING, "\xED\xA0\x80"), std::nullopt) << "half a surrogate pair";
  EXPECT_EQ(text(V_ASN1_PRINTABLESTRING, "M\xFCller"), std::nullopt);
  EXPECT_EQ(text(V_ASN1_IA5STRING, "\x80"), std::nullopt);
  EXPECT_EQ(text(V_ASN1_BMPSTRING, "\0"s), std::nullopt);
  EXPECT_EQ(text(V_ASN1_BMPSTRING, "\xD8\x3D"s), std::nullopt);
  EXPECT_EQ(text(V_ASN1_BMPSTRING, "\xD8\x3D\0a"s), std::nullopt);
  EXPECT_EQ(text(V_ASN1_BMPSTRING, "\xDC\x7E\xD8\x3D"s), std::nullopt);
  EXPECT_EQ(text(V_ASN1_UNIVERSALSTRING, "\0\x11\0\0"s), std::nullopt);
  EXPECT_EQ(text(V_ASN1_UNIVERSALSTRING, "\0\0\xD8\x3D"s), std::nullopt);
  EXPECT_EQ(text(V_ASN1_UNIVERSALSTRING, "\0\0\0"s), std::nullopt);
  EXPECT_EQ(text(V_ASN1_OCTET_STRING, "a"), std::nullopt);
  EXPECT_EQ(utf8_text(nullptr), std::nullopt);
}

TEST(Asn1Text, WritesDer) {
  EXPECT_EQ(der_of(make(V_ASN1_UTF8STRING, "ab").get()), "\x0C\x02"s + "ab");
  EXPECT_EQ(der_of(make(V_ASN1_UTF8STRING, "").get()), "\x0C\0"s);
  const std::string long_text(300, 'x');
  EXPECT_EQ(der_of(make(V_ASN1_UTF8STRING, long_text).get()), "\x0C\x82\x01\x2C"s + long_text);
}

TEST(Asn1Text, WritesOids) {
  const auto dotted = [](const std::string& der) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
    const std::unique_ptr<ASN1_OBJECT, Deleter<ASN1_OBJECT_free>> object(
        d2i_ASN1_OBJECT(nullptr, &bytes, static_cast<long>(der.size())));
    EXPECT_NE(object, nullptr);
    return oid_text(object.get());
  };
  EXPECT_EQ(dotted("\x06\x03\x55\x04\x03"), "2.5.4.3");
  EXPECT_EQ(dotted("\x06\x40" + std::string(63, '\xFF') + "\x01").size(), 137U) << "whole";
  EXPECT_EQ(dotted("\x06\x41" + std::string(64, '\xFF') + "\x01"), "");
  EXPECT_EQ(oid_text(nullptr), "");
}

}  // namespace
}  // namespace handshake::tls
