# SPDX-License-Identifier: Apache-2.0
hs_test(service_conformance
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/agent_wire_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/consumer_wire_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/done_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/endings_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/submit_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/kunit_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/queue_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/races_test.cpp
  LIBS hs_service)
