# SPDX-License-Identifier: Apache-2.0
if(TARGET hs_agent)
  hs_test(agent_test
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/agent_test.cpp
    LIBS hs_agent hs_test_pki)
endif()
