// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "service/intrusive_list.h"
#include "service/revocable.h"
#include "service/session_record.h"

namespace handshake::service {
namespace {

struct Element {
  int value = 0;
  Links<Element> links;
};
using List = IntrusiveList<Element, &Element::links>;

std::vector<int> drained(List& list) {
  std::vector<int> values;
  while (Element* const first = list.front()) {
    values.push_back(first->value);
    list.remove(*first);
  }
  return values;
}

TEST(IntrusiveList, KeepsOrderAtBothEnds) {
  Element a{1, {}}, b{2, {}}, c{3, {}};
  List list;
  list.push_back(b);
  list.push_back(c);
  list.push_front(a);
  EXPECT_EQ(list.size(), 3u);
  EXPECT_EQ(drained(list), (std::vector<int>{1, 2, 3}));
  EXPECT_TRUE(list.empty());
}

TEST(IntrusiveList, AnElementLeavesFromAnywhereAndComesBack) {
  Element elements[4] = {{0, {}}, {1, {}}, {2, {}}, {3, {}}};
  for (int removed = 0; removed < 4; ++removed) {
    List list;
    for (Element& element : elements) list.push_back(element);
    list.remove(elements[removed]);
    EXPECT_EQ(list.size(), 3u);
    list.push_back(elements[removed]);
    std::vector<int> expected;
    for (int i = 0; i < 4; ++i) {
      if (i != removed) expected.push_back(i);
    }
    expected.push_back(removed);
    EXPECT_EQ(drained(list), expected);
  }
}

TEST(Revocable, CallsUntilRevoked) {
  int calls = 0;
  Revocable<int> callback([&](int by) { calls += by; });
  EXPECT_TRUE(callback.call(2));
  callback.revoke();
  EXPECT_FALSE(callback.call(2));
  EXPECT_EQ(calls, 2);
}

TEST(Revocable, MayBeRevokedFromInsideItsCall) {
  Revocable<>* self = nullptr;
  int calls = 0;
  Revocable<> callback([&] {
    ++calls;
    self->revoke();
  });
  self = &callback;
  EXPECT_TRUE(callback.call());
  EXPECT_FALSE(callback.call());
  EXPECT_EQ(calls, 1);
}

TEST(Revocable, AnEmptyCallbackIsNoCall) {
  Revocable<> callback(nullptr);
  EXPECT_FALSE(callback.call());
}

TEST(Revocable, NoCallRunsOnAnotherThreadAfterRevokeHasReturned) {
  for (int round = 0; round < 200; ++round) {
    std::atomic<bool> revoked{false};
    std::atomic<bool> late{false};
    Revocable<> callback([&] {
      if (revoked) late = true;
    });
    std::thread caller([&] {
      for (int i = 0; i < 50; ++i) callback.call();
    });
    callback.revoke();
    revoked = true;
    caller.join();
    EXPECT_FALSE(late);
  }
}

TEST(Counters, EveryNameIsDifferent) {
  for (std::size_t i = 0; i < kCounterNames.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      EXPECT_NE(kCounterNames[i].first, kCounterNames[j].first);
      EXPECT_NE(kCounterNames[i].second, kCounterNames[j].second);
    }
  }
}

}  // namespace
}  // namespace handshake::service
