# SPDX-License-Identifier: Apache-2.0
hs_test(protocol_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/protocol_message_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/protocol_policy_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/protocol_controller_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/protocol_capture_test.cpp
  LIBS hs_protocol)
