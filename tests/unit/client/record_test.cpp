// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <initializer_list>
#include <vector>

#include <gtest/gtest.h>

#include "client/alert.h"
#include "client/record.h"

namespace handshake::client {
namespace {

using Kind = RecordAction::Kind;

constexpr std::uint8_t kAlertRecord = 21;
constexpr std::uint8_t kHandshakeRecord = 22;
constexpr std::uint8_t kDataRecord = 23;

std::vector<std::byte> bytes(std::initializer_list<int> values) {
  std::vector<std::byte> result;
  for (const int value : values) result.push_back(static_cast<std::byte>(value));
  return result;
}

/// A well-formed NewSessionTicket (RFC 8446 §4.6.1) with a ticket of that many bytes.
std::vector<std::byte> ticket(std::size_t ticket_bytes) {
  const std::size_t length = 4 + 4 + 1 + 2 + ticket_bytes + 2;
  std::vector<std::byte> message = bytes({4, static_cast<int>(length >> 16U),
                                          static_cast<int>(length >> 8U & 0xFFU),
                                          static_cast<int>(length & 0xFFU)});
  message.resize(4 + length, std::byte{0x5A});
  return message;
}

std::vector<std::byte> operator+(std::vector<std::byte> a, const std::vector<std::byte>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

RecordAction violation(Alert alert) {
  return {Kind::kViolation, static_cast<std::uint8_t>(alert), ""};
}

RecordAction take_once(Role role, std::uint8_t type, const std::vector<std::byte>& content) {
  return RecordInterpreter(role).take(type, content);
}

TEST(RecordInterpreter, GivesApplicationDataToTheProgram) {
  EXPECT_EQ(take_once(Role::kClient, kDataRecord, bytes({1, 2, 3})), (RecordAction{Kind::kData}));
  EXPECT_EQ(take_once(Role::kServer, kDataRecord, bytes({1})), (RecordAction{Kind::kData}));
}

TEST(RecordInterpreter, EveryRecordTypeHasAMeaningOrIsRefused) {
  for (int type = 0; type < 256; ++type) {
    const auto action = take_once(Role::kClient, static_cast<std::uint8_t>(type), bytes({1, 0}));
    switch (type) {
      case kDataRecord: EXPECT_EQ(action.kind, Kind::kData); break;
      case kAlertRecord: EXPECT_EQ(action.kind, Kind::kEnd); break;
      case kHandshakeRecord:  // half the header of a message: read on
        EXPECT_EQ(action.kind, Kind::kContinue);
        break;
      default: EXPECT_EQ(action, violation(Alert::kUnexpectedMessage)) << type;
    }
  }
}

TEST(RecordInterpreter, EveryAlertButTwoEndsTheSessionWhateverItsLevel) {
  for (int level = 0; level < 256; ++level) {
    for (int alert = 0; alert < 256; ++alert) {
      const auto action = take_once(Role::kClient, kAlertRecord, bytes({level, alert}));
      if (alert == 0) {
        ASSERT_EQ(action.kind, Kind::kEnd);
      } else if (alert == 90) {
        ASSERT_EQ(action.kind, Kind::kContinue);
      } else {
        ASSERT_EQ(action, (RecordAction{Kind::kPeerAlert, static_cast<std::uint8_t>(alert)}));
      }
    }
  }
}

TEST(RecordInterpreter, AnAlertMayArriveByteByByte) {
  RecordInterpreter interpreter(Role::kClient);
  EXPECT_EQ(interpreter.take(kAlertRecord, bytes({2})), RecordAction{});
  EXPECT_EQ(interpreter.take(kAlertRecord, bytes({48})), (RecordAction{Kind::kPeerAlert, 48}));
}

TEST(RecordInterpreter, AnAlertIsTwoBytesAlone) {
  EXPECT_EQ(take_once(Role::kClient, kAlertRecord, {}), violation(Alert::kUnexpectedMessage));
  EXPECT_EQ(take_once(Role::kClient, kAlertRecord, bytes({1, 0, 1, 0})),
            violation(Alert::kDecodeError));
  RecordInterpreter interpreter(Role::kClient);
  EXPECT_EQ(interpreter.take(kAlertRecord, bytes({1})), RecordAction{});
  EXPECT_EQ(interpreter.take(kDataRecord, bytes({0})), violation(Alert::kUnexpectedMessage));
  RecordInterpreter other(Role::kClient);
  EXPECT_EQ(other.take(kAlertRecord, bytes({1})), RecordAction{});
  EXPECT_EQ(other.take(kHandshakeRecord, bytes({0})), violation(Alert::kUnexpectedMessage));
}

TEST(RecordInterpreter, ReadsOnAfterUserCanceled) {
  RecordInterpreter interpreter(Role::kServer);
  EXPECT_EQ(interpreter.take(kAlertRecord, bytes({1, 90})), RecordAction{});
  EXPECT_EQ(interpreter.take(kAlertRecord, bytes({1, 0})), (RecordAction{Kind::kEnd}));
}

// A ticket in front of, behind and between data, cut into pieces of every size.
TEST(RecordInterpreter, SkipsTicketsHoweverTheyAreCut) {
  const std::vector<std::byte> stream = ticket(200) + ticket(1) + ticket(300);
  for (std::size_t piece = 1; piece <= stream.size(); ++piece) {
    RecordInterpreter interpreter(Role::kClient);
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      const std::size_t size = std::min(piece, stream.size() - at);
      ASSERT_EQ(interpreter.take(kHandshakeRecord, std::span(stream).subspan(at, size)),
                RecordAction{})
          << piece;
    }
    ASSERT_EQ(interpreter.take(kDataRecord, bytes({1})), (RecordAction{Kind::kData})) << piece;
  }
}

TEST(RecordInterpreter, NothingElseComesInsideAMessage) {
  const std::vector<std::byte> message = ticket(40);
  for (std::size_t cut = 1; cut < message.size(); ++cut) {
    for (const std::uint8_t type : {kDataRecord, kAlertRecord, std::uint8_t{20}}) {
      RecordInterpreter interpreter(Role::kClient);
      ASSERT_EQ(interpreter.take(kHandshakeRecord, std::span(message).first(cut)), RecordAction{});
      ASSERT_EQ(interpreter.take(type, bytes({1, 0})), violation(Alert::kUnexpectedMessage));
    }
  }
}

TEST(RecordInterpreter, ATicketHasALengthThatATicketCanHave) {
  struct Case { std::uint32_t length; bool good; };
  for (const Case& one : {Case{0, false}, Case{13, false}, Case{14, true}, Case{131'337, true},
                          Case{131'338, false}, Case{0xFFFFFF, false}}) {
    const auto action = take_once(
        Role::kClient, kHandshakeRecord,
        bytes({4, static_cast<int>(one.length >> 16U), static_cast<int>(one.length >> 8U & 0xFFU),
               static_cast<int>(one.length & 0xFFU)}));
    EXPECT_EQ(action, one.good ? RecordAction{} : violation(Alert::kDecodeError)) << one.length;
  }
}

TEST(RecordInterpreter, OnlyAServerSendsTickets) {
  EXPECT_EQ(take_once(Role::kServer, kHandshakeRecord, ticket(10)),
            violation(Alert::kUnexpectedMessage));
}

TEST(RecordInterpreter, EveryOtherHandshakeMessageIsRefused) {
  for (int type = 0; type < 256; ++type) {
    if (type == 4 || type == 24) continue;
    for (const Role role : {Role::kClient, Role::kServer}) {
      EXPECT_EQ(take_once(role, kHandshakeRecord, bytes({type, 0, 0, 1, 0})),
                violation(Alert::kUnexpectedMessage))
          << type;
    }
  }
}

TEST(RecordInterpreter, NoticesAKeyUpdateHoweverItIsCut) {
  for (const int request : {0, 1}) {
    const std::vector<std::byte> message = bytes({24, 0, 0, 1, request});
    for (const Role role : {Role::kClient, Role::kServer}) {
      EXPECT_EQ(take_once(role, kHandshakeRecord, message), (RecordAction{Kind::kKeyUpdate}));
      RecordInterpreter interpreter(role);
      for (std::size_t i = 0; i + 1 < message.size(); ++i) {
        ASSERT_EQ(interpreter.take(kHandshakeRecord, std::span(message).subspan(i, 1)),
                  RecordAction{});
      }
      EXPECT_EQ(interpreter.take(kHandshakeRecord, std::span(message).last(1)),
                (RecordAction{Kind::kKeyUpdate}));
    }
  }
  EXPECT_EQ(take_once(Role::kClient, kHandshakeRecord, ticket(9) + bytes({24, 0, 0, 1, 0})),
            (RecordAction{Kind::kKeyUpdate}));
}

TEST(RecordInterpreter, RefusesAMalformedKeyUpdate) {
  EXPECT_EQ(take_once(Role::kClient, kHandshakeRecord, bytes({24, 0, 0, 1, 2})),
            violation(Alert::kIllegalParameter));
  EXPECT_EQ(take_once(Role::kClient, kHandshakeRecord, bytes({24, 0, 0, 0})),
            violation(Alert::kDecodeError));
  EXPECT_EQ(take_once(Role::kClient, kHandshakeRecord, bytes({24, 0, 0, 2, 0, 0})),
            violation(Alert::kDecodeError));
  EXPECT_EQ(take_once(Role::kClient, kHandshakeRecord, bytes({24, 1, 0, 1, 0})),
            violation(Alert::kDecodeError));
}

TEST(RecordInterpreter, AKeyUpdateEndsItsRecord) {
  EXPECT_EQ(take_once(Role::kClient, kHandshakeRecord, bytes({24, 0, 0, 1, 0}) + ticket(9)),
            violation(Alert::kUnexpectedMessage));
}

TEST(RecordInterpreter, AnEmptyHandshakeRecordIsRefused) {
  EXPECT_EQ(take_once(Role::kClient, kHandshakeRecord, {}), violation(Alert::kUnexpectedMessage));
}

TEST(RecordInterpreter, AFewEmptyRecordsAreFineAFloodIsNot) {
  RecordInterpreter interpreter(Role::kServer);
  for (int round = 0; round < 3; ++round) {
    for (unsigned i = 0; i < RecordInterpreter::kMaxEmptyRecords; ++i) {
      ASSERT_EQ(interpreter.take(kDataRecord, {}), (RecordAction{Kind::kData}));
    }
    ASSERT_EQ(interpreter.take(kDataRecord, bytes({1})), (RecordAction{Kind::kData}));
  }
  for (unsigned i = 0; i < RecordInterpreter::kMaxEmptyRecords; ++i) {
    ASSERT_EQ(interpreter.take(kAlertRecord, bytes({1, 90})), RecordAction{});
  }
  EXPECT_EQ(interpreter.take(kDataRecord, {}), violation(Alert::kUnexpectedMessage));
}

TEST(Alert, IsKnownByNameAndMeansAnErrno) {
  EXPECT_STREQ(alert_name(0), "close_notify");
  EXPECT_STREQ(alert_name(116), "certificate_required");
  EXPECT_STREQ(alert_name(-1), "unknown_alert");
  EXPECT_STREQ(alert_name(255), "unknown_alert");
  EXPECT_EQ(alert_errno(42), EACCES);
  EXPECT_EQ(alert_errno(48), EACCES);
  EXPECT_EQ(alert_errno(116), EACCES);
  EXPECT_EQ(alert_errno(115), EKEYREJECTED);
  EXPECT_EQ(alert_errno(80), EIO);
  EXPECT_EQ(alert_errno(200), EIO);
}

}  // namespace
}  // namespace handshake::client
