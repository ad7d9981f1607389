
  if(UNIX)
    add_executable(@name@_agent_program example/agent.c)
    target_link_libraries(@name@_agent_program @name@_agent)
  endif()