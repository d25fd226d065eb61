# SPDX-License-Identifier: Apache-2.0
# What only a kernel with kTLS can run, on both of the test bed's.
if(TARGET client_session_test AND TARGET ktls_test)
  foreach(kernel newest stable)
    add_test(NAME kernel.programs-${kernel}
      COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/kernel/programs ${kernel} $<TARGET_FILE:client_session_test>
              $<TARGET_FILE:ktls_test>)
    set_tests_properties(kernel.programs-${kernel} PROPERTIES LABELS kernel TIMEOUT 900 RUN_SERIAL ON
      SKIP_RETURN_CODE 77)
  endforeach()
endif()
