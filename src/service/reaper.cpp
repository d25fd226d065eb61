// SPDX-License-Identifier: Apache-2.0
#include "service/reaper.h"

#include <new>

namespace handshake::service {

struct Reaper::Ticket::Close final : BlockingPool::Job {
  void run() noexcept override { fd.reset(); }
  UniqueFd fd;
};

void Reaper::Ticket::Delete::operator()(Close* job) const noexcept { delete job; }

Reaper::Ticket Reaper::prepare() {
  Ticket ticket;
  ticket.job_.reset(new Ticket::Close);
  return ticket;
}

void Reaper::close(UniqueFd fd, Owner owner) noexcept {
  if (!fd) return;
  Ticket ticket;
  ticket.job_.reset(new (std::nothrow) Ticket::Close);
  if (ticket.job_ == nullptr) {
    ++closed_inline_;
    return;
  }
  close(std::move(fd), owner, std::move(ticket));
}

void Reaper::close(UniqueFd fd, Owner owner, Ticket ticket) noexcept {
  if (!fd) return;
  std::unique_ptr<Ticket::Close> job(ticket.job_.release());
  job->fd = std::move(fd);
  pool_.submit(std::move(job), owner);
}

Reaper::Counts Reaper::counts() const {
  const BlockingPool::Counts counts = pool_.counts();
  return Counts{counts.done, counts.waiting, counts.running, counts.threads, closed_inline_.load()};
}

}  // namespace handshake::service
