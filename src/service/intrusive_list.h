// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace handshake::service {

template <class T>
struct Links {
  T* previous = nullptr;
  T* next = nullptr;
};

/// A list of elements that carry their own links: nothing here allocates or fails, and an element
/// leaves in constant time. Does not own; an element is in one list per Links member at a time.
template <class T, Links<T> T::*kLinks>
class IntrusiveList {
 public:
  IntrusiveList() = default;
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;

  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// nullptr when empty.
  [[nodiscard]] T* front() const noexcept { return first_; }

  void push_back(T& element) noexcept { insert(element, last_, nullptr); }
  void push_front(T& element) noexcept { insert(element, nullptr, first_); }
  /// Precondition: `element` is in this list.
  void remove(T& element) noexcept {
    Links<T>& links = element.*kLinks;
    (links.previous != nullptr ? (links.previous->*kLinks).next : first_) = links.next;
    (links.next != nullptr ? (links.next->*kLinks).previous : last_) = links.previous;
    links = {};
    --size_;
  }

 private:
  void insert(T& element, T* previous, T* next) noexcept {
    element.*kLinks = {previous, next};
    (previous != nullptr ? (previous->*kLinks).next : first_) = &element;
    (next != nullptr ? (next->*kLinks).previous : last_) = &element;
    ++size_;
  }

  T* first_ = nullptr;
  T* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace handshake::service
