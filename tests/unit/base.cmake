# SPDX-License-Identifier: Apache-2.0
hs_test(base_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/result_test.cpp ${CMAKE_CURRENT_LIST_DIR}/log_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/event_loop_test.cpp
  LIBS hs_base)
hs_test(config_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/config_test.cpp
  LIBS hs_config)
hs_test(transport_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/transport_test.cpp
  LIBS hs_transport)
